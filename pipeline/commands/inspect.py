"""`corpusmill inspect`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corpusmill.schemas.console import call, out

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A run folder, a dataset folder, or one .parquet shard.")],
    samples: Annotated[int, typer.Option(min=0, help="Also print this many documents (datasets and shards).")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Statistics of a dataset, a run or a single shard: totals, languages, sources, lengths, drop reasons.

    \b
    corpusmill inspect runs/web                  the funnel: where the records went
    corpusmill inspect runs/web/dataset --samples 3
    corpusmill inspect runs/web/dataset/data/train-000-00000.parquet --json
    """
    from corpusmill.pipeline import inspection

    kind, described = inspection.describe(path, samples)
    if json_:
        out.print_json(data=described)
    else:
        {"run": inspection.print_run, "dataset": inspection.print_dataset, "shard": inspection.print_dataset}[kind](
            described, out
        )


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "inspect", arguments)
