"""`corpusmill status`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corpusmill.schemas.console import call, out

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def status(
    folder: Annotated[str, typer.Argument(help="Run folder, as given to `corpusmill run --out`.")],
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show how far a run is: who holds the folder, units committed by job, units that failed before.

    \b
    corpusmill status runs/web
    """
    from corpusmill.pipeline import inspection

    described = inspection.describe_status(folder)
    if json_:
        out.print_json(data=described)
    else:
        inspection.print_status(described, out)


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "status", arguments)
