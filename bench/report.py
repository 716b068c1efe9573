"""The table of bench/train: a line for each peer, with the ratio and whether the demand is met."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from timing import Clock, Run, speed, speedup

__all__ = ["Line", "line_of", "show", "shown"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table.

    Attributes:
        what: was measured.
        beside: the peer.
        ours: as it is shown.
        peer: as it is shown.
        wall: how many times as fast we are by the wall clock.
        cpu: the same by CPU time.
        demand: as it is shown; "" for none.
        holds: whether it is met.
    """

    what: str
    beside: str
    ours: str = ""
    peer: str = ""
    wall: float | None = None
    cpu: float | None = None
    demand: str = ""
    holds: bool = True


def line_of(what: str, peer: str, ours: list[Run], theirs: list[Run], demand: float | None) -> Line:
    """The comparison with a peer; the worse of both clocks has to meet the demand."""
    wall, cpu = (speedup(ours, theirs, clock) for clock in ("wall_s", "cpu_s"))
    return Line(
        what=what,
        beside=peer,
        ours=shown(ours),
        peer=shown(theirs),
        wall=wall,
        cpu=cpu,
        demand="" if demand is None else f">= {demand:g}x",
        holds=demand is None or min(wall, cpu) >= demand,
    )


def shown(runs: list[Run], clock: Clock = "wall_s") -> str:
    """A speed for people: 1,234 or 56.7 M."""
    tokens = speed(runs, clock)
    return f"{tokens / 1e6:.1f} M" if tokens >= 1e6 else f"{tokens:,.0f}"


def show(console: Console, lines: list[Line]) -> None:
    """The table."""
    table = Table("tokens/s", "beside", "ours", "peer", "wall", "CPU", "demand", "", box=None)
    for line in lines:
        ratios = ("" if ratio is None else f"{ratio:.2f}x" for ratio in (line.wall, line.cpu))
        verdict = ("[green]pass[/]" if line.holds else "[red]FAIL[/]") if line.demand else ""
        table.add_row(line.what, line.beside, line.ours, line.peer, *ratios, line.demand, verdict)
    console.print()
    console.print(table)
