"""Progress on stderr: one line a job, what is done and an estimate of the time left; silent when not a terminal."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
    track,
)
from rich.progress import Progress as RichProgress

from corpusmill.pipeline.jobs.base import Task, committed
from corpusmill.schemas.files import Files

__all__ = ["Progress"]

T = TypeVar("T")
_POLL_SECONDS = 0.5

Poll = Callable[[], tuple[int, int | None]]
"""How much is done, and of how much; None where that is unknown."""


class Progress:
    """Tells a person what a run is doing. Units are counted by their commit records, whatever the runner."""

    def __init__(self, console: Console | None) -> None:
        self._console = console

    @classmethod
    def silent(cls) -> "Progress":
        """One that says nothing."""
        return cls(None)

    def say(self, message: str) -> None:
        """Say something that happened once."""
        if self._console is not None:
            self._console.print(message, highlight=False)

    def track(self, items: Iterable[T], n: int) -> Iterable[T]:
        """Show how far an iteration over `n` items is."""
        if self._console is None or not self._console.is_terminal:
            return items
        return track(items, "    verify", n, console=self._console)

    def job(
        self, name: str, tasks: Sequence[Task], stale: Sequence[Task], files: Files
    ) -> contextlib.AbstractContextManager[None]:
        """Show the units of a job for the duration of the block."""
        waiting = {task.unit: task for task in stale}

        def poll() -> tuple[int, int]:
            for unit, task in list(waiting.items()):
                if committed(task, files) is not None:
                    del waiting[unit]
            return len(tasks) - len(waiting), len(tasks)

        return self._show(name, stale, poll, (MofNCompleteColumn(), TextColumn("units")))

    def downloads(
        self, name: str, lanes: Sequence[Sequence[Task]], files: Files
    ) -> contextlib.AbstractContextManager[None]:
        """Show the bytes that lanes of downloads have brought for the duration of the block."""
        tally = _Downloads(lanes, files)
        stale = [task for lane in lanes for task in lane]
        return self._show(name, stale, tally.poll, (DownloadColumn(), TransferSpeedColumn()))

    @contextlib.contextmanager
    def _show(
        self, name: str, stale: Sequence[Task], poll: Poll, columns: tuple[ProgressColumn, ...]
    ) -> Iterator[None]:
        if self._console is None or not self._console.is_terminal or not stale:
            yield
            return
        frame = (
            TextColumn("{task.description:>10}"),
            BarColumn(),
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*frame, console=self._console) as bar:
            done, total = poll()
            line = bar.add_task(name, total=total, completed=done)
            stop = threading.Event()

            def watch() -> None:
                while not stop.wait(_POLL_SECONDS):
                    done, total = poll()
                    bar.update(line, completed=done, total=total)

            thread = threading.Thread(target=watch, daemon=True, name="progress")
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()
                done, total = poll()
                bar.update(line, completed=done, total=total)


class _Downloads:
    """Bytes that are here and bytes that there will be. Only the first open task of a lane is looked at."""

    def __init__(self, lanes: Sequence[Sequence[Task]], files: Files) -> None:
        self._waiting = [list(reversed(lane)) for lane in lanes]
        self._files = files
        self._done: list[int] = []

    def poll(self) -> tuple[int, int | None]:
        """What is done so far; files of unknown size count as the mean of the others."""
        here, sizes, unknown = sum(self._done), list(self._done), 0
        for lane in self._waiting:
            while lane and (commit := committed(lane[-1], self._files)) is not None:
                lane.pop()
                self._done.append(commit.detail["n_bytes"])
                here += self._done[-1]
                sizes.append(self._done[-1])
            for i, task in enumerate(reversed(lane)):
                arrived, size = self._part(task) if i == 0 else (0, task.spec["n_bytes"])
                here += arrived
                if size is None:
                    unknown += 1
                else:
                    sizes.append(size)
        total = round(sum(sizes) * (1 + unknown / len(sizes))) if sizes else None
        return here, total

    def _part(self, task: Task) -> tuple[int, int | None]:
        """Bytes of a file that is on its way, and its size if the server has told it."""
        size: int | None = task.spec["n_bytes"]
        if task.spec["raw"] is None:
            return 0, size
        part = self._files.partial_path(task.spec["raw"])
        with contextlib.suppress(OSError, ValueError):
            arrived = part.stat().st_size
            if size is None:
                size = json.loads(part.with_name(f"{part.name}.json").read_bytes())["size"]
            return arrived, size
        return 0, size
