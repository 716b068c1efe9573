"""`corpusmill train` and `corpusmill train plot`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from corpusmill.schemas.console import call, out, say
from corpusmill.schemas.errors import UsageError
from corpusmill.train.config import load_config

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True, subcommand_metavar="[plot RUN…]")
def train(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="DIR[:WEIGHT]", help="Dataset folder and its share; repeatable."),
    ] = None,
    to: Annotated[str | None, typer.Option("--out", metavar="RUN", help="Run folder, local.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML file; ready ones are in recipes/train/.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
    skip_steps: Annotated[
        int, typer.Option(min=0, metavar="N", help="With --resume: pass over the data of the next N steps.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show sizes, memory, epochs and time, from five timed steps.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a language model on dataset folders.

    RUN gets step-N/model (loads with transformers), step-N/state (to go on from), log.jsonl and tensorboard/. Ctrl-C
    ends with a checkpoint; the same command with --resume goes on, exactly, on any number of processes. Settings:
    model.preset, data.sequence_length, optim.name, optim.lr, optim.steps, optim.batch, eval.every, stop_at, and all
    others of the class TrainConfig.

    \b
    corpusmill train --data runs/web/dataset --out runs/nano --set model.preset=nano --set optim.steps=500
    corpusmill train --data runs/web/dataset --out runs/nano --resume
    corpusmill train --data runs/web/dataset:3 --data runs/wiki/dataset:1 --out runs/mix --config my.yaml
    corpusmill train --data runs/web/dataset --set model.preset=7b --dry-run
    torchrun --nproc-per-node 8 -m corpusmill.train --data runs/web/dataset --out runs/small
    corpusmill train plot runs/nano runs/mix
    """
    if context.invoked_subcommand is not None:
        return
    overrides = []
    if data:
        overrides.append(f"data.datasets={json.dumps(data)}")
    overrides += [f"{key}={value}" for key, value in (("device", device), ("threads", threads)) if value is not None]
    overrides += settings or []
    if dry_run:
        from corpusmill.train.dry_run import dry_run as show

        show(load_config(config, overrides), out)
        raise typer.Exit(0)
    if not to:
        raise UsageError("--out is missing: name the run folder")
    if Path(to).is_file():
        raise UsageError(f"--out {to} is a file: name a folder")
    if "://" in to:
        raise UsageError(f"--out {to}: a run folder is local; copy step-N/model where it is wanted when it is done")
    if skip_steps and not resume:
        raise UsageError("--skip-steps is for a run that goes on: add --resume")
    from corpusmill.train.start import last_checkpoint, start

    saved = last_checkpoint(to)
    if saved is not None and not resume:
        raise UsageError(
            f"{to} has a checkpoint of step {saved[0].step}: go on with --resume, or name another --out for a new run"
        )
    base = None if saved is None else saved[0].config.model_dump(mode="json", exclude={"stop_at"})
    loaded = load_config(config, overrides, base)
    outcome = start(loaded, to, saved=saved, skip_steps=skip_steps, quiet=quiet)
    if os.environ.get("RANK", "0") == "0":
        if outcome.evaluation is not None:
            from corpusmill.train.evaluation import print_evaluation

            print_evaluation(outcome.evaluation, out)
        if outcome.signal:
            say.print(f"corpusmill train: stopped after step {outcome.step}; the same command with --resume goes on")
        out.print(f"model: {to.rstrip('/')}/step-{outcome.step}/model")
    raise typer.Exit(128 + outcome.signal if outcome.signal else 0)


@app.command()
def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Run folders.")],
    to: Annotated[str | None, typer.Option("--out", help="FILE.svg, .png or .pdf; default: plot.svg in RUN.")] = None,
    over: Annotated[str, typer.Option(help="What stands on the horizontal axis: tokens or steps.")] = "tokens",
) -> None:
    """Draw loss, bits per byte, learning rate, gradient norm and speed of one or more runs."""
    if over not in ("tokens", "steps"):
        raise UsageError(f"--over {over}: give tokens or steps")
    from corpusmill.train.plot import plot as draw

    out.print(str(draw(runs, to, over=over)))  # type: ignore[arg-type]


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit code."""
    return call(app, "train", arguments, interrupted=None)
