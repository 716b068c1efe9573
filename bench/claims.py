"""What a benchmark demands and finds: the tables that it prints, the file that it writes, and whether all is met."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from machine import commit, machine
from rich.console import Console
from rich.table import Table

__all__ = ["Bench", "Claim", "table", "verdict", "write_result"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A demand, and what was measured.

    Attributes:
        what: is claimed.
        found: as it is shown.
        demand: as it is shown.
        holds: whether it is met.
    """

    what: str
    found: str
    demand: str
    holds: bool


@dataclass(kw_only=True)
class Bench:
    """What the parts of a benchmark found.

    Attributes:
        console: to print on.
        claims: all of them.
        details: the measurements of each part.
    """

    console: Console
    claims: list[Claim] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def claim(self, what: str, found: str, demand: str, holds: bool) -> None:
        self.claims.append(Claim(what=what, found=found, demand=demand, holds=holds))

    def show(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self.console.print(table(title, columns, rows))

    def finish(self, target: Path | None, **more: Any) -> NoReturn:
        """Show the claims, write the result file if there is to be one, and exit with 1 if a demand is not met."""
        rows = [(c.what, c.found, c.demand, verdict(c.holds)) for c in self.claims]
        self.show("", ("claim", "found", "demand", ""), rows)
        if target is not None:
            claims = [asdict(claim) for claim in self.claims]
            write_result(self.console, target, {"claims": claims, "details": self.details, **more})
        sys.exit(not all(claim.holds for claim in self.claims))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table: what the first column names, and numbers."""
    made = Table(box=None, title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column != columns[0] else "left")
    for row in rows:
        made.add_row(*row)
    return made


def verdict(holds: bool) -> str:
    """The last column of a claim."""
    return "[green]pass[/]" if holds else "[red]FAIL[/]"


def write_result(console: Console, target: Path, result: dict[str, Any]) -> None:
    """Write what was measured, and on what and when."""
    result = {**result, "machine": machine(), "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(f"\nwritten to {target}")
