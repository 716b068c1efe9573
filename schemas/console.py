"""What the commands of both halves share: consoles, errors, exit codes."""

import io
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from corpusmill.schemas.errors import CorpusmillError

__all__ = ["call", "human_bytes", "out", "say"]

out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
"""Data: standard output."""

say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""Progress and errors: standard error."""


_INTERRUPTED = 130  # typer's exit code for Ctrl-C


def call(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str],
    *,
    interrupted: str | None = "stopped; what is committed stays, the same command goes on",
) -> int:
    """Run a typer app; known errors become one message and their exit code.

    Args:
        app: with one command.
        name: of the command.
        arguments: that it was given.
        interrupted: said after Ctrl-C; None for commands that say it themselves.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale is: the texts are of any language
    try:
        typer.main.get_command(app).main(list(arguments), prog_name=f"corpusmill {name}")
    except CorpusmillError as error:
        say.print(f"corpusmill {name}: {error}", style="red" if say.is_terminal else None)
        return error.exit_code
    except OSError as error:
        say.print(f"corpusmill {name}: {error}", style="red" if say.is_terminal else None)
        return 1
    except SystemExit as end:
        if end.code == _INTERRUPTED and interrupted is not None:
            say.print(f"corpusmill {name}: {interrupted}")
        return int(end.code or 0)
    return 0


def human_bytes(n: float) -> str:
    """1,234,567 -> 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
