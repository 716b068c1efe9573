"""`corpusmill fetch`."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from corpusmill.pipeline.commands.options import BeamOptions, Out, Recipe, Runner, Settings
from corpusmill.schemas.console import call, human_bytes, out, say
from corpusmill.schemas.recipe_file import load_recipe

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def fetch(
    recipe: Recipe,
    beam_options: BeamOptions = None,
    to: Out = ...,  # type: ignore[assignment]
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is there again; what is not as it came is fetched anew.")
    ] = False,
    runner: Runner = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes, for Dask.")] = None,
    settings: Settings = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what was fetched as JSON.")] = False,
) -> None:
    """Download the inputs of a recipe into its run folder and check them; `corpusmill run` goes on from there.

    Downloads are resumed where they stopped, and nothing is downloaded twice. Files on this machine and objects of a
    store (s3://, gs://) are read in place: they are only hashed. Limits per host, retries and the User-Agent are set in
    the recipe's `fetch` section.

    \b
    corpusmill fetch recipes/commoncrawl.yaml --out runs/cc --set sources.0.files=0-9
    corpusmill fetch recipes/commoncrawl.yaml --out runs/cc --set fetch.connections=2
    corpusmill fetch recipes/wikipedia.yaml --out runs/zhwiki --verify
    """
    loaded = load_recipe(recipe, settings or [])
    from corpusmill.pipeline.progress import Progress
    from corpusmill.pipeline.run import run as run_recipe

    report = run_recipe(
        loaded,
        to,
        runner=runner,
        workers=workers,
        until="fetch",
        verify=verify,
        beam_options=beam_options or [],
        progress=Progress(say),
    )
    job = report.jobs["fetch"]
    if json_:
        out.print_json(data=job | {"seconds": report.seconds, "changed": report.changed})
        return
    table = Table("", "files", "bytes", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    counts = job["counts"]
    table.add_row("downloaded", f"{counts.get('downloaded', 0):,}", human_bytes(counts.get("downloaded_bytes", 0)))
    in_place = (counts["files"] - counts.get("downloaded", 0), counts["bytes"] - counts.get("downloaded_bytes", 0))
    table.add_row("read in place", f"{in_place[0]:,}", human_bytes(in_place[1]))
    out.print(table)
    for name in report.changed:
        out.print(f"was not as it came, fetched again: {name}")
    now = f"{job['done']:,} of {job['units']:,} inputs were fetched now"
    out.print(f"\n{counts['units']:,} units, {now} ({report.seconds:.1f} s)")


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "fetch", arguments)
