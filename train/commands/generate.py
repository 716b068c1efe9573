"""`corpusmill generate`."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from corpusmill.schemas.console import call, out
from corpusmill.schemas.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def generate(
    checkpoint: Annotated[str, typer.Option(help="RUN, RUN/step-N, or a model folder.")],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT…]", help="Texts to continue; default: one a line of stdin.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a continuation.")] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most probable token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample among so many tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the nucleus of this probability.")] = 0.95,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws: the same seed gives the same text.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list of {prompt, text}.")] = False,
) -> None:
    """Continue texts. One prompt streams to the terminal; several are continued together.

    \b
    corpusmill generate --checkpoint runs/nano "The history of the city"
    corpusmill generate --checkpoint runs/nano --temperature 0 --json "在安装过程中，" "To install"
    """
    texts = prompts or _lines()
    if not texts:
        raise UsageError("no prompt: give one as an argument, or one a line on standard input")
    from corpusmill.train.generation import generate as continue_texts
    from corpusmill.train.generation import load_model
    from corpusmill.train.hardware import set_threads

    set_threads(threads)
    model = load_model(checkpoint, device=device)
    streams = len(texts) == 1 and not json_
    unsaid = texts[:1]  # written with the first piece, when nothing can be refused any more

    def stream(_: int, piece: str) -> None:
        _write("".join(unsaid) + piece)
        unsaid.clear()

    found = continue_texts(
        model,
        texts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=stop or (),
        seed=seed,
        stream=stream if streams else None,
    )
    if streams:
        stream(0, "\n")
    elif json_:
        out.print_json(data=[{"prompt": prompt, "text": text} for prompt, text in zip(texts, found, strict=True)])
    else:
        _write("\n\n".join(prompt + text for prompt, text in zip(texts, found, strict=True)) + "\n")


def _lines() -> list[str]:
    """The lines of standard input, as UTF-8 whatever the locale is, without their ends."""
    lines = []
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            lines.append(line.decode().removesuffix("\n").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise UsageError(
                f"line {number} of standard input is not UTF-8: {error.reason} at byte {error.start + 1}; "
                "convert it, as with iconv -t UTF-8"
            ) from error
    return lines


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "generate", arguments, interrupted="stopped")
