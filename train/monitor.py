"""What a run tells: `log.jsonl`, TensorBoard, and a person at a terminal or reading the log of a job.

`log.jsonl` has one JSON object a step, appended in one write, so unlike all other files it does not go through
`Files`, and it has to be local. It is for reading, not for resuming: nothing depends on it.

===================  =========================================================================================
step                 updates done, from 1
loss                 nats a target, mean over the global batch
lr                   learning rate of the update
grad_norm            of the whole gradient before clipping
tokens               targets trained on so far
tokens_per_second    targets of this step / seconds
data_wait            share of the step in which the devices waited for data, 0 to 1
mfu                  share of the devices' peak operations that the model's arithmetic makes up, 0 to 1
seconds              of the step, evaluation and checkpoint not counted
eval                 on some: loss, bits_per_byte, and bits per byte by `languages` and by `sources`
samples              on some: list of {prompt, text}
===================  =========================================================================================

A number that is not finite is null.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from corpusmill.schemas.console import say
from corpusmill.schemas.files import Files
from corpusmill.train.evaluation import Evaluation

__all__ = ["LOG", "Monitor", "read_log"]

LOG = "log.jsonl"
"""Name of the log in a run folder."""

_LIFE_SECONDS = 60.0
"""Longest silence of a plain log while steps are done."""

_SCALARS = {
    "train/loss": "loss",
    "train/learning_rate": "lr",
    "train/gradient_norm": "grad_norm",
    "speed/tokens_per_second": "tokens_per_second",
    "speed/mfu": "mfu",
    "speed/data_wait": "data_wait",
}
"""TensorBoard's tags and where their values stand in a record."""


class Monitor:
    """Hears of each step of a run and passes it on. Processes other than the main one make no sound."""

    def __init__(
        self,
        folder: str | Path,
        *,
        steps: int,
        done: int = 0,
        flops_per_token: float,
        peak_flops: float,
        is_main: bool = True,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin, or go on after step `done`: what the log says of later steps is removed.

        Args:
            folder: the run folder, local.
            steps: of the whole run.
            done: steps done before.
            flops_per_token: operations to train on one token.
            peak_flops: operations a second of all devices together.
            is_main: whether this process writes and prints.
            quiet: say nothing on the terminal.
            console: where to say it; None: stderr.
            clock: seconds, for the estimate of the time left.
        """
        self._share_of_peak = flops_per_token / peak_flops
        self._screen: _Screen | None = None
        self._sinks: list[_Sink] = []
        if not is_main:
            return
        folder = Path(folder)
        if not quiet:
            self._screen = _Screen(console or say, steps, done, clock)
            self._sinks.append(self._screen)
        self._sinks.append(_Log(folder, done))
        try:
            self._sinks.append(_Board(folder / "tensorboard", done))
        except ImportError:
            self.say("no TensorBoard files: it is not installed (pip install tensorboard)")

    def step(
        self,
        step: int,
        *,
        loss: float,
        lr: float,
        grad_norm: float,
        tokens: int,
        step_tokens: int,
        seconds: float,
        data_seconds: float,
        evaluation: Evaluation | None = None,
        samples: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Tell of a step that is done; the module says what the numbers are.

        Args:
            step: updates done with this one.
            loss: mean over the global batch.
            lr: of the update.
            grad_norm: before clipping.
            tokens: targets so far, over all devices.
            step_tokens: targets of this step, over all devices.
            seconds: of the step.
            data_seconds: of these, spent waiting for data.
            evaluation: scores of the model after the step.
            samples: prompts and what the model after the step made of them.
        """
        speed = step_tokens / seconds
        record: dict[str, Any] = {
            "step": step,
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens": tokens,
            "tokens_per_second": speed,
            "data_wait": data_seconds / seconds,
            "mfu": speed * self._share_of_peak,
            "seconds": seconds,
        }
        if evaluation is not None:
            record["eval"] = {
                "loss": evaluation.total.loss,
                "bits_per_byte": evaluation.total.bits_per_byte,
                "languages": {name: s.bits_per_byte for name, s in sorted(evaluation.languages.items())},
                "sources": {name: s.bits_per_byte for name, s in sorted(evaluation.sources.items())},
            }
        if samples:
            record["samples"] = [{"prompt": prompt, "text": text} for prompt, text in samples]
        for sink in self._sinks:
            sink.write(record)

    def say(self, message: str) -> None:
        """Say something that happened once."""
        if self._screen is not None:
            self._screen.say(message)

    def close(self) -> None:
        """Finish the files and the progress bar."""
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log in their order. A line that a killed process left half-written is passed over.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return [record for _, record in _records(path)]


def _records(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int) and line.endswith(b"\n"):
            yield line, record


class _Sink(Protocol):
    def write(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class _Log:
    """Appends to `log.jsonl`."""

    def __init__(self, folder: Path, done: int) -> None:
        path = folder / LOG
        kept = [line for line, record in _records(path) if record["step"] <= done] if path.exists() else []
        Files(folder).write_bytes(LOG, b"".join(kept))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, record: dict[str, Any]) -> None:
        line = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


class _Board:
    """Writes TensorBoard's event files; those of steps after `done` are hidden by it."""

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=done + 1, flush_secs=30)

    def write(self, record: dict[str, Any]) -> None:
        step = record["step"]
        scalars = {tag: record[name] for tag, name in _SCALARS.items()}
        if "eval" in record:
            scores = record["eval"]
            scalars |= {"eval/loss": scores["loss"], "eval/bits_per_byte": scores["bits_per_byte"]}
            scalars |= {f"eval/bits_per_byte/{name}": value for name, value in scores["languages"].items()}
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)
        for i, sample in enumerate(record.get("samples", ())):
            text = f"{sample['prompt']}{sample['text']}"
            # Indented by four it is verbatim in Markdown, whatever a model writes.
            self._writer.add_text(f"samples/{i}", "\n".join(f"    {line}" for line in text.splitlines()), step)

    def close(self) -> None:
        self._writer.close()


class _Screen:
    """A progress bar on a terminal; elsewhere a line at each tenth of the run, and at least one a minute."""

    def __init__(self, console: Console, steps: int, done: int, clock: Callable[[], float]) -> None:
        self._console, self._steps, self._done, self._clock = console, steps, done, clock
        self._begin = clock()
        self._last_step, self._last_time = -1, self._begin
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done)
        self._bar.start()

    def write(self, record: dict[str, Any]) -> None:
        step, now = record["step"], self._clock()
        numbers = f"loss {record['loss']:.3f}  {_thousands(record['tokens_per_second'])} tokens/s"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=step, description=numbers)
        elif self._is_due(step, now):
            left = (self._steps - step) * (now - self._begin) / (step - self._done)
            self.say(f"step {step}/{self._steps}  {numbers}  {_duration(left)} left")
            self._last_step, self._last_time = step, now
        if "eval" in record:
            scores = record["eval"]
            languages = ", ".join(f"{name} {value:.3f}" for name, value in scores["languages"].items())
            by = f" ({languages})" if languages else ""
            self.say(
                f"step {step}: evaluation loss {scores['loss']:.3f}, {scores['bits_per_byte']:.3f} bits a byte{by}"
            )
        for sample in record.get("samples", ()):
            self.say(f"  {_one_line(sample['prompt'])} → {_one_line(sample['text'])}")

    def _is_due(self, step: int, now: float) -> bool:
        tenths = 10 * step // self._steps > 10 * self._last_step // self._steps
        return self._last_step < 0 or tenths or now - self._last_time >= _LIFE_SECONDS

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def _finite(value: Any) -> Any:
    """None in place of numbers that JSON cannot say."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _thousands(n: float) -> str:
    return f"{n / 1e6:.2f}M" if n >= 1e6 else f"{n / 1e3:.1f}k" if n >= 1e3 else f"{n:.0f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _one_line(text: str) -> str:
    """A model may write anything, control codes of terminals too."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown if len(shown) <= 160 else f"{shown[:159]}…"
