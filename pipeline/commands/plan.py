"""`corpusmill plan`."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from corpusmill.pipeline.commands.options import Recipe, Settings
from corpusmill.schemas.console import call, human_bytes, out
from corpusmill.schemas.recipe_file import load_recipe

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def plan(
    recipe: Recipe,
    settings: Settings = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show the files and units that a run would read, with their bytes. Touches nothing.

    The units of a file that is not here yet are unknown until it is downloaded.

    \b
    corpusmill plan recipes/wikipedia.yaml
    corpusmill plan recipes/web.yaml --set 'sources.0.paths=[crawl/*.warc.gz]' --json
    """
    loaded = load_recipe(recipe, settings or [])
    from corpusmill.pipeline import sources
    from corpusmill.pipeline.download.client import Client
    from corpusmill.pipeline.download.listing import Listings
    from corpusmill.pipeline.plan import list_files, list_units
    from corpusmill.pipeline.run import check

    check(loaded)
    rows: list[dict[str, object]] = []
    with Client(loaded.fetch) as client:
        files = list_files(loaded, Listings(client.get))
    for file in files:
        entry: dict[str, object] = {"source": file.source, "kind": file.kind, "file": file.file_path}
        if file.remote is not None or file.n_bytes is None:
            rows.append(entry | {"unit": None, "start": None, "end": None, "bytes": file.n_bytes})
            continue
        ranges = [(0, file.n_bytes)]
        if not file.is_whole:
            index = sources.index_of(file.kind, file.location)
            ranges = sources.ranges(
                file.kind, file.location, index=index, n_bytes=file.n_bytes, target_bytes=loaded.unit_bytes
            )
        for unit in list_units(file, file.location, ranges):
            piece = unit.piece
            rows.append(entry | {"unit": unit.name, "start": piece.start, "end": piece.end, "bytes": unit.n_bytes})
    if json_:
        out.print_json(data={"units": rows, "bytes": sum(int(str(row["bytes"] or 0)) for row in rows)})
        return
    table = Table("source", "file", "unit", "from byte", "bytes", box=None)
    for row in rows:
        start = "" if row["start"] is None else f"{row['start']:,}"
        size = "unknown" if row["bytes"] is None else f"{row['bytes']:,}"
        table.add_row(str(row["source"]), str(row["file"]), str(row["unit"] or "after download"), start, size)
    out.print(table)
    total = sum(int(str(row["bytes"] or 0)) for row in rows)
    n_files = len({(row["source"], row["file"]) for row in rows})
    out.print(f"\n{len(rows)} units in {n_files} files, {human_bytes(total)} here")


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "plan", arguments)
