"""One unit in one worker: the attempt marker, the job's work, the end of the marker. Knows nothing of Beam."""

import json
import sys

from corpusmill.pipeline.jobs import JOBS
from corpusmill.pipeline.jobs.base import Stopwatch, Task, attempt_name
from corpusmill.pipeline.jobs.extract import quarantine
from corpusmill.schemas.files import Files

__all__ = ["LAST_ATTEMPT", "attempts", "execute", "run_quarantine"]

LAST_ATTEMPT = 3
"""At this start without a commit a unit runs alone in a process of its own."""


def attempts(job: str, unit: str, files: Files) -> int:
    """How often a unit was begun and not ended."""
    data = files.read_or_none(attempt_name(job, unit))
    return 0 if data is None else int(json.loads(data)["started"])


def execute(task: Task, files: Files) -> None:
    """Do one unit: mark the attempt, work, commit, remove the mark."""
    name = attempt_name(task.job, task.unit)
    started = attempts(task.job, task.unit, files) + 1
    files.write_bytes(name, json.dumps({"started": started}).encode())
    JOBS[task.job].work(task, files, Stopwatch())
    files.delete(name)


def run_quarantine(task: Task, files: Files) -> None:
    """Commit a unit that kills its process as one damaged record, and end its attempts."""
    quarantine(task, files, Stopwatch())
    files.delete(attempt_name(task.job, task.unit))


def main() -> None:
    """`python -m corpusmill.pipeline.work ROOT`: do the task that arrives on standard input."""
    execute(Task.decode(sys.stdin.buffer.read()), Files(sys.argv[1]))


if __name__ == "__main__":
    main()
