"""What the commands that take a recipe have in common."""

from typing import Annotated

import typer

__all__ = ["BeamOptions", "Out", "Recipe", "Runner", "Settings"]

Recipe = Annotated[str, typer.Argument(help="YAML file; ready ones are in recipes/.")]

BeamOptions = Annotated[
    list[str] | None, typer.Argument(metavar="[-- BEAM OPTIONS]", help="What follows -- goes to Beam.")
]

Out = Annotated[str, typer.Option("--out", help="Run folder: a local path or an fsspec URL.")]

Runner = Annotated[str, typer.Option(help="local, dask, or any Beam runner such as DataflowRunner.")]

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; repeatable.")
]
