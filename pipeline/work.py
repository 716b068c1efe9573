"""One unit in one worker: the attempt marker, the job's work, the end of the marker. Knows nothing of Beam."""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from corpusmill.pipeline.jobs import JOBS
from corpusmill.pipeline.jobs.base import LaneJob, Stopwatch, Task, UnitJob, attempt_name, committed
from corpusmill.pipeline.jobs.extract import quarantine
from corpusmill.pipeline.processes import die_with_parent
from corpusmill.schemas import errors
from corpusmill.schemas.errors import CorpusmillError, WorkerError
from corpusmill.schemas.files import Files

__all__ = ["LAST_ATTEMPT", "attempts", "execute", "execute_lanes", "failure", "run_quarantine"]

_LISTEN_SECONDS = 0.2

LAST_ATTEMPT = 3
"""At this start without a commit a unit runs alone in a process of its own."""


def attempts(job: str, unit: str, files: Files) -> int:
    """How often a unit was begun and not ended."""
    data = files.read_or_none(attempt_name(job, unit))
    return 0 if data is None else int(json.loads(data)["started"])


def execute(task: Task, files: Files, watch: Stopwatch | None = None) -> None:
    """Do one unit: mark the attempt, work, commit, remove the mark; an exception leaves its story in the mark.

    What is not the unit's fault is not counted as an attempt: errors that we raise on purpose (a failed download),
    those of the operating system (a full disk), and the user's interrupt.
    """
    name = attempt_name(task.job, task.unit)
    started = attempts(task.job, task.unit, files)
    files.write_bytes(name, json.dumps({"started": started + 1}).encode())
    job = JOBS[task.job]
    assert isinstance(job, UnitJob)
    try:
        job.work(task, files, watch or Stopwatch())
    except (Exception, KeyboardInterrupt) as error:
        innocent = isinstance(error, CorpusmillError | KeyboardInterrupt) or getattr(error, "errno", None) is not None
        story = {"kind": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        with contextlib.suppress(OSError):  # a full disk holds no story either
            files.write_bytes(name, json.dumps({"started": started + (not innocent), "error": story}).encode())
        raise
    files.delete(name)


def execute_lanes(lanes: Sequence[Sequence[Task]], files: Files) -> list[Task]:
    """Do lanes of tasks side by side, a thread each; returns the tasks that were not done before.

    A lane ends at its first error, the others go on; then the first of the errors is raised. Beyond the lanes that
    wait for servers there are no more threads than cores.
    """
    done: list[Task] = []
    stories: list[BaseException] = []
    waiting = list(reversed(lanes))  # lanes that wait for servers come first

    def work() -> None:
        while True:
            try:
                lane = waiting.pop()
            except IndexError:
                return
            job = JOBS[lane[0].job]
            assert isinstance(job, LaneJob)
            try:
                with job.lane():
                    for task in lane:
                        if committed(task, files) is None:  # a runner may repeat a lane
                            execute(task, files, Stopwatch(time.thread_time))
                            done.append(task)
            except BaseException as error:
                stories.append(error)

    n_remote = sum("lanes" in lane[0].spec for lane in lanes)
    n_threads = min(len(lanes), n_remote + (os.cpu_count() or 1))
    threads = [threading.Thread(target=work, daemon=True, name=f"lane-{i}") for i in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_LISTEN_SECONDS)  # a thread that waits without end hears no Ctrl-C
    if stories:
        raise stories[0]
    return done


def failure(tasks: Sequence[Task], files: Files) -> CorpusmillError | None:
    """The error that stopped one of these units, as the worker saw it: runners only pass on its traceback as text."""
    for task in tasks:
        data = files.read_or_none(attempt_name(task.job, task.unit))
        story = None if data is None else json.loads(data).get("error")
        if story is None:
            continue
        kind = getattr(errors, story["kind"], None)
        if kind is not None:
            return kind(story["message"])  # type: ignore[no-any-return]
        if "[Errno" in story["message"]:
            return WorkerError(f"{task.job}: unit {task.unit} failed: {story['message']}; mend that and run again")
        return WorkerError(
            f"{task.job}: unit {task.unit} failed: {story['kind']}: {story['message']}\n{story['traceback']}"
            "What is committed stays; run the same command again to go on."
        )
    return None


def run_quarantine(task: Task, files: Files) -> None:
    """Commit a unit that kills its process as one damaged record, and end its attempts."""
    quarantine(task, files, Stopwatch())
    files.delete(attempt_name(task.job, task.unit))


def main() -> None:
    """`python -m corpusmill.pipeline.work ROOT`: do the task that arrives on standard input."""
    die_with_parent()
    execute(Task.decode(sys.stdin.buffer.read()), Files(sys.argv[1]))


if __name__ == "__main__":
    main()
