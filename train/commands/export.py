"""`corpusmill export`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corpusmill.schemas.console import call, out
from corpusmill.schemas.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def export(
    checkpoint: Annotated[str, typer.Option(help="RUN, RUN/step-N, or a model folder.")],
    to: Annotated[str, typer.Option(metavar="FOLDER", help="Where the model folder goes: a path or an fsspec URL.")],
    dtype: Annotated[str, typer.Option(help="fp32, or bf16 for half the size.")] = "fp32",
) -> None:
    """Write a model folder that loads with transformers: AutoModelForCausalLM and AutoTokenizer.

    \b
    corpusmill export --checkpoint runs/nano --to nano --dtype bf16
    """
    if dtype not in ("fp32", "bf16"):
        raise UsageError(f"--dtype {dtype}: give fp32 or bf16")
    from corpusmill.train.export import export as write

    for info in write(checkpoint, to, dtype=dtype):  # type: ignore[arg-type]
        out.print(f"{info.n_bytes:>12,}  {info.name}")


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "export", arguments, interrupted="stopped")
