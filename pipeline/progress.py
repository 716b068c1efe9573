"""Progress on stderr: one line a job, units done and an estimate of the time left; silent when not a terminal."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from corpusmill.pipeline.jobs.base import Task
from corpusmill.schemas.commits import read_commit
from corpusmill.schemas.files import Files

__all__ = ["Progress"]

_POLL_SECONDS = 0.5


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

    @contextlib.contextmanager
    def job(self, name: str, tasks: Sequence[Task], stale: Sequence[Task], files: Files) -> Iterator[None]:
        """Show a job for the duration of the block."""
        if self._console is None or not self._console.is_terminal or not stale:
            yield
            return
        columns = (
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("units"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bar:
            line = bar.add_task(name, total=len(tasks), completed=len(tasks) - len(stale))
            stop = threading.Event()
            waiting = {task.unit: task for task in stale}

            def watch() -> None:
                while not stop.wait(_POLL_SECONDS):
                    for unit, task in list(waiting.items()):
                        commit = read_commit(files, task.job, unit)
                        if commit is not None and commit.fingerprint == task.fingerprint:
                            del waiting[unit]
                    bar.update(line, completed=len(tasks) - len(waiting))

            thread = threading.Thread(target=watch, daemon=True, name="progress")
            thread.start()
            try:
                yield
                bar.update(line, completed=len(tasks))
            finally:
                stop.set()
                thread.join()
