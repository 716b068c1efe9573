"""All of corpusmill's Beam wiring: three graphs, each one linear chain with one sink.

Rules (DESIGN §3, tested on the pipeline proto): no tagged outputs, side inputs, state, CombineFns or beam.io; every
transform labelled; elements are task descriptions and packed byte arrays, never documents. Results come from the
commit records that workers publish, not from the graph, because not every runner gives results back.
"""

import io
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import pyarrow as pa

from corpusmill.pipeline.jobs import dedup
from corpusmill.pipeline.jobs.base import Task, committed, timing_name
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
    """bytes (task) -> (partition, bytes): the packed keys of a unit."""

    def __init__(self, root: str, shared_files: bool) -> None:
        self.root, self.shared_files = root, shared_files

    def process(self, element: bytes) -> Iterator[dedup.Element]:
        """Pack the keys of one unit."""
        yield from dedup.map_keys(Task.decode(element), Files(self.root), shared_files=self.shared_files)


class CollectEdges(beam.DoFn):
    """(partition, packed keys) -> (0, edges)."""

    def __init__(self, root: str) -> None:
        self.root = root

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[dedup.Element]:
        """Chain the keys of one partition."""
        yield from dedup.collect_edges(element[1], Files(self.root))


class Resolve(beam.DoFn):
    """(0, edges) -> (task, decisions), one for each unit."""

    def __init__(self, root: str) -> None:
        self.root = root

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """Decide for the whole run."""
        yield from dedup.resolve(element[1], Files(self.root))


class WriteDecisions(beam.DoFn):
    """(task, decisions) -> bytes (task): commits a unit unless it is committed already."""

    def __init__(self, root: str) -> None:
        self.root = root

    def process(self, element: tuple[bytes, bytes]) -> Iterator[bytes]:
        """Commit the decisions about one unit."""
        task, files = Task.decode(element[0]), Files(self.root)
        if committed(task, files) is None:
            dedup.write_unit(task, pa.ipc.open_stream(io.BytesIO(element[1])).read_all(), files)
            _report(task, files)
        yield element[0]


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
    """Dedup: keys of each unit -> partitions -> edges -> decisions -> each unit."""
    units = pipeline | f"{job}: units" >> beam.Create([task.encode() for task in tasks])
    keys = units | f"{job}: keys" >> beam.ParDo(MapKeys(root, shared_files))
    partitions = keys | f"{job}: partitions" >> beam.GroupByKey()
    edges = partitions | f"{job}: edges" >> beam.ParDo(CollectEdges(root))
    everything = edges | f"{job}: gather" >> beam.GroupByKey()
    decisions = everything | f"{job}: decide" >> beam.ParDo(Resolve(root))
    _ = decisions | f"{job}: write" >> beam.ParDo(WriteDecisions(root))


def _report(task: Task, files: Files) -> None:
    commit = read_commit(files, task.job, task.unit)
    timing = files.read_or_none(timing_name(task.job, task.unit))
    for name, value in (commit.counts if commit else {}).items():
        Metrics.counter(_NAMESPACE, f"{task.job}_{name}").inc(value)
    for stage, ms in (json.loads(timing)["milliseconds"] if timing else {}).items():
        Metrics.distribution(_NAMESPACE, f"{task.job}_{stage}_msec").update(round(ms))
