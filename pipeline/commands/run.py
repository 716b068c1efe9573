"""`corpusmill run`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corpusmill.pipeline.commands.options import BeamOptions, Out, Recipe, Runner, Settings
from corpusmill.schemas.console import call, out, say
from corpusmill.schemas.recipe_file import load_recipe

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    recipe: Recipe,
    beam_options: BeamOptions = None,
    to: Out = ...,  # type: ignore[assignment]
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: one, or all cores for long work.")
    ] = None,
    runner: Runner = "local",
    settings: Settings = None,
    from_job: Annotated[
        str | None, typer.Option("--from", metavar="JOB", help="Do this job and all later ones again.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the run report as JSON.")] = False,
) -> None:
    """Run a recipe: download, extract, refine, select, deduplicate, tokenize, shard.

    A run that was stopped goes on where it was; a run whose recipe changed redoes what the change touches. Exit
    code 3 means done, with damaged records in the input (they are in the ledger).

    \b
    corpusmill run recipes/web.yaml --out runs/web --workers 2
    corpusmill run recipes/web.yaml --out runs/web --set dedup.minhash.threshold=0.8
    corpusmill run recipes/web.yaml --out runs/web --set 'language.keep=[zh, en]' --from select
    corpusmill run recipes/web.yaml --out runs/web --runner dask -- --dask_client_address=tcp://host:8786
    corpusmill run recipes/web.yaml --out gs://bucket/run --runner DataflowRunner -- --project=P --region=R
    """
    loaded = load_recipe(recipe, settings or [])
    from corpusmill.pipeline import inspection
    from corpusmill.pipeline.progress import Progress
    from corpusmill.pipeline.run import run as run_recipe

    report = run_recipe(
        loaded,
        to,
        runner=runner,
        workers=workers,
        from_job=from_job,
        beam_options=beam_options or [],
        progress=Progress(say),
    )
    described = inspection.describe_run(to)
    if json_:
        out.print_json(data=described)
    else:
        inspection.print_run(described, out)
        out.print(f"\ndataset: {to.rstrip('/')}/dataset  ({report.seconds:.1f} s)")
    raise typer.Exit(report.exit_code)


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "run", arguments)
