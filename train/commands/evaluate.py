"""`corpusmill eval`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from corpusmill.schemas.console import call, out, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Option(help="RUN, RUN/step-N, or a model folder.")],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="DIR", help="Dataset folder; default: those that RUN was trained on."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    max_documents: Annotated[
        int | None, typer.Option(min=1, help="Only the first N documents of each dataset.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens a row; default: as it was trained.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "fp32",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on held-out documents: bits per byte, perplexity and accuracy by language and source.

    Each document is read once, whole, after one end-of-document token and alone. Bits per byte do not depend on the
    tokenizer, so they compare between models; the dataset must have the model's tokenizer.

    \b
    corpusmill eval --checkpoint runs/nano
    corpusmill eval --checkpoint runs/nano/step-500 --data runs/web/dataset --split test --json
    """
    from corpusmill.train.evaluation import print_evaluation
    from corpusmill.train.hardware import set_threads
    from corpusmill.train.scoring import score_checkpoint

    set_threads(threads)
    with _progress() as progress:
        evaluation = score_checkpoint(
            checkpoint,
            data or [],
            split=split,
            max_documents=max_documents,
            sequence_length=sequence_length,
            device=device,
            precision=precision,
            progress=progress,
        )
    if json_:
        out.print_json(data=evaluation.to_json())
    else:
        print_evaluation(evaluation, out)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A counter of scored tokens on a terminal; how many there are is not known before the last is read."""
    columns = (TextColumn("scored"), TextColumn("{task.completed:,.0f} tokens"), TimeElapsedColumn())
    with Progress(*columns, console=say, transient=True, disable=not say.is_terminal) as bar:
        line = bar.add_task("", total=None)
        yield lambda n: bar.advance(line, n)


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "eval", arguments, interrupted="stopped")
