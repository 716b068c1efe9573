"""All of corpusmill's Beam wiring: three graphs, each one linear chain with one sink.

Rules (DESIGN §3, tested on the pipeline proto): no tagged outputs, side inputs, state, CombineFns or beam.io; every
transform labelled; elements are task descriptions and packed byte arrays, never documents. Results come from the
commit records that workers publish, not from the graph, because not every runner gives results back.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from corpusmill.pipeline.jobs import dedup, grouping
from corpusmill.pipeline.jobs.base import Task, committed, timing_name
from corpusmill.pipeline.jobs.scratch import Element, Scratch
from corpusmill.pipeline.work import execute, execute_lanes
from corpusmill.schemas.commits import read_commit
from corpusmill.schemas.files import Files

# Beam warns on import that it has no Google client; that is how a machine without [gcp] should be.
logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())

import apache_beam as beam  # noqa: E402
from apache_beam.metrics import Metrics  # noqa: E402

__all__ = ["grouping_graph", "lane_graph", "unit_graph"]

_NAMESPACE = "corpusmill"


class DoUnit(beam.DoFn):
    """bytes (task) -> bytes (task): does the unit and reports its counts and times as Beam metrics."""

    def __init__(self, root: str) -> None:
        self.root = root

    def process(self, element: bytes) -> Iterator[bytes]:
        """Do one unit."""
        task, files = Task.decode(element), Files(self.root)
        execute(task, files)
        _report(task, files)
        yield element


class DoLanes(beam.DoFn):
    """bytes (lanes of tasks) -> bytes (task): does each lane front to back, the lanes of an element side by side."""

    def __init__(self, root: str) -> None:
        self.root = root

    def process(self, element: bytes) -> Iterator[bytes]:
        """Do some lanes."""
        files = Files(self.root)
        lanes = [[Task(**task) for task in lane] for lane in json.loads(element)]
        for task in execute_lanes(lanes, files):
            _report(task, files)
            yield task.encode()


class MapKeys(beam.DoFn):
    """bytes (where a task stands) -> (partition, bytes): the packed keys of a unit."""

    def __init__(self, root: str, shared_files: bool) -> None:
        self.root, self.shared_files = root, shared_files

    def process(self, element: bytes) -> Iterator[Element]:
        """Pack the keys of one unit."""
        scratch = Scratch(Files(self.root), self.shared_files)
        yield from grouping.map_keys(Task.decode(scratch.read(element)), scratch)


class GroupingStep(beam.DoFn):
    """(key, payloads) -> (key, payload): one of `grouping.STEPS`."""

    def __init__(self, name: str, root: str, shared_files: bool) -> None:
        self.name, self.root, self.shared_files = name, root, shared_files

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Do the step for one key."""
        yield from grouping.do_step(self.name, *element, Scratch(Files(self.root), self.shared_files))


class WriteDecisions(beam.DoFn):
    """(unit, decisions) -> bytes (task): commits a unit unless it is committed already."""

    def __init__(self, root: str, shared_files: bool) -> None:
        self.root, self.shared_files = root, shared_files

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        """Commit the decisions about one unit."""
        files = Files(self.root)
        task, parts = grouping.of_unit(element[1], Scratch(files, self.shared_files))
        if committed(task, files) is None:
            dedup.write_unit(task, grouping.decisions(parts), files)
            _report(task, files)
        yield task.encode()


def unit_graph(pipeline: beam.Pipeline, job: str, tasks: Sequence[Task], root: str) -> None:
    """Each task on its own."""
    units = pipeline | f"{job}: units" >> beam.Create([task.encode() for task in tasks])
    _ = units | f"{job}: work" >> beam.ParDo(DoUnit(root))


def lane_graph(
    pipeline: beam.Pipeline, job: str, lanes: Sequence[Sequence[Task]], root: str, *, together: bool
) -> None:
    """Each lane on its own, or all together in one worker."""
    groups = [lanes] if together else [[lane] for lane in lanes]
    elements = [json.dumps([[asdict(task) for task in lane] for lane in group]).encode() for group in groups]
    units = pipeline | f"{job}: lanes" >> beam.Create(elements)
    _ = units | f"{job}: work" >> beam.ParDo(DoLanes(root))


def grouping_graph(pipeline: beam.Pipeline, job: str, tasks: Sequence[Task], root: str, *, shared_files: bool) -> None:
    """Dedup: keys of each unit -> `grouping.STEPS` -> each unit.

    All units are in one graph, which Dataflow refuses above 10 MB: it holds places in a file of tasks that it writes.
    """
    places = Scratch(Files(root), shared=True).ship("dedup-tasks", ((0, task.encode()) for task in tasks))
    units = pipeline | f"{job}: units" >> beam.Create([place for _, place in places])
    elements = units | f"{job}: keys" >> beam.ParDo(MapKeys(root, shared_files))
    for name in grouping.STEPS:
        groups = elements | f"{job}: group to {name}" >> beam.GroupByKey()
        elements = groups | f"{job}: {name}" >> beam.ParDo(GroupingStep(name, root, shared_files))
    groups = elements | f"{job}: group to write" >> beam.GroupByKey()
    _ = groups | f"{job}: write" >> beam.ParDo(WriteDecisions(root, shared_files))


def _report(task: Task, files: Files) -> None:
    commit = read_commit(files, task.job, task.unit)
    timing = files.read_or_none(timing_name(task.job, task.unit))
    for name, value in (commit.counts if commit else {}).items():
        Metrics.counter(_NAMESPACE, f"{task.job}_{name}").inc(value)
    for stage, ms in (json.loads(timing)["milliseconds"] if timing else {}).items():
        Metrics.distribution(_NAMESPACE, f"{task.job}_{stage}_msec").update(round(ms))
