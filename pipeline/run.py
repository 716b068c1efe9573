"""The driver: holds the run folder, turns each job into tasks, hands the stale ones to a runner, keeps the books."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from corpusmill.pipeline import graph
from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.listing import Listings
from corpusmill.pipeline.download.space import check_space
from corpusmill.pipeline.jobs import JOBS
from corpusmill.pipeline.jobs.base import Job, LaneJob, RunState, Task, UnitJob, committed, timing_name
from corpusmill.pipeline.jobs.extract import Extract, cpu_seconds
from corpusmill.pipeline.jobs.fetch import Fetch
from corpusmill.pipeline.jobs.manifest import MANIFEST
from corpusmill.pipeline.jobs.shard import Shard
from corpusmill.pipeline.jobs.tokenizer import check_tokenizer_file
from corpusmill.pipeline.plan import list_files
from corpusmill.pipeline.progress import Progress
from corpusmill.pipeline.runners import BeamRunner, check_runner, local_workers, open_runner
from corpusmill.pipeline.stages.language import LanguageSettings, identify
from corpusmill.pipeline.stages.selection import check_rules
from corpusmill.pipeline.verify import forget_changed
from corpusmill.pipeline.work import LAST_ATTEMPT, attempts, failure, run_quarantine
from corpusmill.schemas import lease
from corpusmill.schemas.commits import Commit, commit_name, read_commit
from corpusmill.schemas.errors import RecipeError, UsageError, WorkerError
from corpusmill.schemas.files import Files
from corpusmill.schemas.recipe import Recipe

__all__ = ["RunReport", "check", "run"]

_WAVE = 5_000
"""Units in one graph: Beam keeps the whole list in the graph, and Dataflow refuses graphs over 10 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """What a run did.

    Attributes:
        seconds: wall time.
        jobs: by job: `units`, `done` (in this run), counts summed over all units, `milliseconds` by stage.
        changed: inputs that were fetched again because `verify` found them changed.
        books: records by verdict, reasons and languages, as `jobs.manifest.balance` gives them.
    """

    seconds: float
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    books: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or 3 when records were damaged."""
        return 3 if self.books.get("damaged") else 0


def check(recipe: Recipe) -> None:
    """All that can be wrong with a recipe beyond its form, before any work.

    Raises:
        RecipeError: naming the field, the value and the fix.
    """
    check_rules(recipe)
    check_tokenizer_file(recipe)
    try:
        identify(pa.array([""]), LanguageSettings(model=recipe.language.model))
    except UsageError as error:
        raise RecipeError(f"language.model: {error}; give the path of a fasttext model") from error


def run(
    recipe: Recipe,
    out: str,
    *,
    runner: str = "local",
    workers: int | None = None,
    from_job: str | None = None,
    until: str | None = None,
    verify: bool = False,
    beam_options: Sequence[str] = (),
    progress: Progress | None = None,
) -> RunReport:
    """Run a recipe, or what is left of it.

    Args:
        recipe: what to do.
        out: the run folder, a local path or an fsspec URL.
        runner: local, dask, or the name of a Beam runner.
        workers: processes; None lets the size of the work decide.
        from_job: forget what this job and those after it have done.
        until: the last job to do; None: all of them.
        verify: read the inputs that are there again, and fetch anew what changed.
        beam_options: for Beam.
        progress: is told what happens.

    Raises:
        RecipeError: the recipe cannot work.
        LeaseError: another run holds the folder.
        WorkerError: a worker died; the same call goes on.
        LedgerError: the books do not balance.
    """
    started = time.time()
    progress = progress or Progress.silent()
    if from_job is not None and from_job not in JOBS:
        raise UsageError(f"--from {from_job!r}: there is no such job; jobs: {', '.join(JOBS)}")
    if not out:
        raise UsageError("--out is empty: name the run folder")
    check_runner(runner, beam_options)
    check(recipe)
    files = Files(out)
    with Client(recipe.fetch) as client:
        listings = Listings(client.get, files, fresh=from_job == Fetch.name)
        inputs = list_files(recipe, listings)
        check_space(files, inputs, client.size)
    if files.is_private and (runner != "local" or (workers or 1) > 1):
        raise UsageError(f"{out} is memory of this process: other workers cannot see it; use one local worker")
    with lease.hold(files, progress.say):
        files.sweep()
        files.delete("run.json")
        files.write_bytes("recipe.json", recipe.model_dump_json(indent=1).encode())
        listings.keep()
        state = RunState(recipe, files, inputs)
        if from_job is not None:
            _forget(list(JOBS)[list(JOBS).index(from_job) :], files)
        changed = forget_changed(inputs, files, progress) if verify else []
        cost = sum(cpu_seconds(file.kind, file.n_bytes or 0) for file in inputs)
        report: dict[str, dict[str, Any]] = {}
        with open_runner(
            runner,
            workers=local_workers(1 if files.is_private else workers, cost) if runner == "local" else workers or 2,
            beam_options=beam_options,
        ) as beam_runner:
            for job in JOBS.values():
                _run_job(job, state, beam_runner, progress)
                report[job.name] = _job_report(job.name, state)
                if job.name == until:
                    return RunReport(seconds=round(time.time() - started, 3), jobs=report, changed=changed)
        manifest = json.loads(files.read_bytes(MANIFEST))
        result = RunReport(
            seconds=round(time.time() - started, 3), jobs=report, changed=changed, books=manifest["ledger"]
        )
        record = {
            "started": started,
            "seconds": result.seconds,
            "command": {"runner": runner, "workers": workers, "from": from_job, "beam_options": list(beam_options)},
            "inputs": [{"source": f.source, "location": f.location} for f in inputs],
            "jobs": result.jobs,
            "books": result.books,
            "exit_code": result.exit_code,
        }
        files.write_bytes("run.json", (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return result


def _forget(jobs: Sequence[str], files: Files) -> None:
    """Make every unit of these jobs stale."""
    for job in jobs:
        for name in files.list(f"commits/{job}"):
            commit = Commit.model_validate_json(files.read_bytes(name))
            commit.forget(files)


def _run_job(job: Job, state: RunState, runner: BeamRunner, progress: Progress) -> None:
    """Bring all units of a job up to date."""
    files = state.files
    tasks = job.tasks(state)
    present = {name: size for folder in job.folders for name, size in files.sizes(folder).items()}
    stale = [task for task in tasks if not _is_done(task, files, present)]
    if stale and job.name == Shard.name:
        _unpublish(files)
    lanes = job.lanes(stale) if isinstance(job, LaneJob) else []
    with progress.downloads(job.name, lanes, files) if lanes else progress.job(job.name, tasks, stale, files):
        # downloads are stopped by people, not by what they hold
        alone = {} if lanes else {task.unit: task for task in stale if _is_last_attempt(task, files)}
        ordinary = [task for task in stale if task.unit not in alone]
        for task in alone.values():
            _run_alone(task, files, progress)
        size = _WAVE if isinstance(job, UnitJob) else max(1, len(ordinary))  # dedup must see all units at once
        for start in range(0, len(ordinary), size):
            wave = ordinary[start : start + size]
            try:
                _run_wave(job, tasks, wave, files, runner)
            except Exception as error:
                if (cause := _cause(error, job, wave, files)) is None:
                    raise
                raise cause from error
    commits: dict[str, Commit] = {}
    for task in tasks:
        commit = read_commit(files, job.name, task.unit)
        if commit is None or commit.fingerprint != task.fingerprint:
            what = "no commit record" if commit is None else "the commit record of other settings or versions"
            raise WorkerError(
                f"{job.name}: unit {task.unit} has {what} although its worker ended well; "
                "are all workers of one version, and is the run folder the same for all?"
            )
        commits[task.unit] = commit
    state.commits[job.name] = commits
    state.done[job.name] = {task.unit for task in stale}
    for name in files.list(f"attempts/{job.name}"):  # of workers that died between commit and mark
        files.delete(name)
    _remove_units_out_of_plan(job, commits, files)


def _cause(error: Exception, job: Job, wave: Sequence[Task], files: Files) -> BaseException | None:
    """What stopped a graph, if it is known: runners pass on what happened in a worker as text."""
    if "KeyboardInterrupt" in str(error):
        return KeyboardInterrupt()
    known = failure(wave, files)
    if known is None and "[Errno" in str(error):  # on a full disk not even the story of the failure finds room
        return WorkerError(f"{job.name}: {error}; mend that and run again")
    return known


def _run_wave(job: Job, tasks: Sequence[Task], stale: Sequence[Task], files: Files, runner: BeamRunner) -> None:
    cost = sum(task.cost for task in stale)
    if isinstance(job, LaneJob):
        lanes = job.lanes(stale)
        runner.run(
            lambda pipeline: graph.lane_graph(pipeline, job.name, lanes, files.root, together=runner.name == "local"),
            n_tasks=1 if runner.name == "local" else len(lanes),
            cost=cost,
            heavy=job.heavy,
        )
    elif isinstance(job, UnitJob):
        # The local runner deals units out in advance, one after the other: big ones first, so that all get some.
        dealt = sorted(stale, key=lambda task: (-task.cost, task.unit))
        runner.run(
            lambda pipeline: graph.unit_graph(pipeline, job.name, dealt, files.root),
            n_tasks=len(stale),
            cost=cost,
            heavy=job.heavy,
        )
    else:
        shared = runner.shared_files
        runner.run(
            lambda pipeline: graph.grouping_graph(pipeline, job.name, tasks, files.root, shared_files=shared),
            n_tasks=len(tasks),
            cost=cost,
            heavy=job.heavy,
        )


def _is_done(task: Task, files: Files, present: Mapping[str, int]) -> bool:
    """Whether a unit is committed under its fingerprint, and nobody has removed or cut its files since."""
    commit = committed(task, files)
    if commit is None:
        return False
    if all(present.get(info.name) == info.n_bytes for info in commit.outputs):
        return True
    commit.forget(files)
    return False


def _is_last_attempt(task: Task, files: Files) -> bool:
    return not files.is_private and attempts(task.job, task.unit, files) >= LAST_ATTEMPT - 1


def _run_alone(task: Task, files: Files, progress: Progress) -> None:
    """The third start of a unit, in a process of its own; only if that dies too is the unit given up."""
    progress.say(f"{task.job}: {task.unit} was begun twice without an end; it now runs alone")
    child = subprocess.run(
        [sys.executable, "-m", "corpusmill.pipeline.work", files.root],
        input=task.encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if child.returncode == 0:
        return
    if child.returncode > 0 or -child.returncode in (signal.SIGINT, signal.SIGTERM):
        last_words = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise failure([task], files) or WorkerError(f"{task.job}: unit {task.unit} failed: {' '.join(last_words)}")
    what = f"killed by signal {-child.returncode}"
    if task.job != Extract.name:
        raise WorkerError(f"{task.job}: the process of unit {task.unit} was {what}, also when it ran alone")
    progress.say(f"{task.job}: {task.unit} is quarantined, its process was {what}")
    run_quarantine(task, files)


def _unpublish(files: Files) -> None:
    """Shards are about to change: a manifest that lists the old ones must not outlive them."""
    files.delete(commit_name("manifest", "dataset"))
    files.delete(MANIFEST)


def _remove_units_out_of_plan(job: Job, commits: dict[str, Commit], files: Files) -> None:
    """Units of an earlier plan: their commit records go first, then all files of the job that no record lists."""
    planned = {commit_name(job.name, unit) for unit in commits}
    gone = [name for name in files.list(f"commits/{job.name}") if name not in planned]
    if gone and job.name == Shard.name:
        _unpublish(files)
    for name in gone:
        files.delete(name)
    listed = {info.name for commit in commits.values() for info in commit.outputs}
    listed |= {timing_name(job.name, unit) for unit in commits}
    for folder in (*job.folders, f"timings/{job.name}"):
        for name in files.list(folder):
            if name not in listed:
                files.delete(name)


def _job_report(job: str, state: RunState) -> dict[str, Any]:
    done = state.done[job] | (state.done["extract"] if job == "refine" else set())  # one pass does both
    counts: dict[str, int] = {}
    milliseconds: dict[str, float] = {}
    places: set[str] = set()
    for unit, commit in state.commits[job].items():
        for key, value in commit.counts.items():
            counts[key] = counts.get(key, 0) + value
        if unit in done:
            timing = state.files.read_or_none(timing_name(job, unit))
            if timing is None:
                continue
            values = json.loads(timing)
            places.add(f"{values['host']}:{values['pid']}")
            for stage, ms in values["milliseconds"].items():
                milliseconds[stage] = round(milliseconds.get(stage, 0.0) + ms, 3)
    return {
        "units": len(state.commits[job]),
        "done": len(done),
        "counts": counts,
        "milliseconds": milliseconds,
        "processes": sorted(places),
    }
