"""The graph rules, checked on the pipeline proto: what every runner, Dask included, can carry."""

from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as proto

from corpusmill.pipeline import graph
from corpusmill.pipeline.jobs import JOBS
from corpusmill.pipeline.jobs.base import RunState, Task, require
from corpusmill.pipeline.plan import list_files
from corpusmill.schemas.files import Files
from corpusmill.schemas.recipe import Recipe
from tests.corpus import write_jsonl

TASKS = [Task(job="extract", unit=f"u{i}", fingerprint="f", spec={"number": i}) for i in range(500)]
GRAPHS: dict[str, Callable[[beam.Pipeline, str], None]] = {
    "units": lambda p, root: graph.unit_graph(p, "extract", TASKS, root),
    "grouping": lambda p, root: graph.grouping_graph(p, "dedup", TASKS, root, shared_files=False),
}
PARDO = common_urns.primitives.PAR_DO.urn
GROUP = common_urns.primitives.GROUP_BY_KEY.urn


@pytest.fixture(params=GRAPHS)
def pipeline(request: pytest.FixtureRequest, tmp_path: Path) -> proto.Pipeline:
    built = beam.Pipeline(runner="FnApiRunner")
    GRAPHS[request.param](built, str(tmp_path))
    return built.to_runner_api()


def leaves(pipeline: proto.Pipeline) -> list[proto.PTransform]:
    return [t for t in pipeline.components.transforms.values() if not t.subtransforms and (t.inputs or t.outputs)]


def test_one_linear_chain_with_one_sink(pipeline: proto.Pipeline) -> None:
    steps = leaves(pipeline)
    consumed = [pcollection for step in steps for pcollection in step.inputs.values()]
    assert len(consumed) == len(set(consumed)), "no PCollection is read twice"
    for step in steps:
        assert len(step.inputs) <= 1, "no side inputs, no flatten"
        assert len(step.outputs) <= 1, "no tagged outputs"
    produced = {pcollection for step in steps for pcollection in step.outputs.values()}
    assert len(produced - set(consumed)) == 1, "one sink"


def test_no_state_no_timers_no_combine_no_side_inputs(pipeline: proto.Pipeline) -> None:
    for step in leaves(pipeline):
        assert step.spec.urn not in (common_urns.primitives.FLATTEN.urn, common_urns.composites.COMBINE_PER_KEY.urn)
        if step.spec.urn == PARDO:
            payload = proto.ParDoPayload.FromString(step.spec.payload)
            assert not payload.state_specs
            assert not payload.timer_family_specs
            assert not payload.side_inputs
            assert not payload.restriction_coder_id


def test_every_transform_of_ours_is_labelled(pipeline: proto.Pipeline) -> None:
    root = pipeline.components.transforms[pipeline.root_transform_ids[0]]
    names = [pipeline.components.transforms[i].unique_name for i in root.subtransforms]
    assert len(names) == len(set(names))
    assert all(": " in name for name in names), names


def test_nothing_is_emitted_when_a_bundle_ends() -> None:
    for value in vars(graph).values():
        if isinstance(value, type) and issubclass(value, beam.DoFn) and value is not beam.DoFn:
            assert value.finish_bundle is beam.DoFn.finish_bundle, value
            assert value.setup is beam.DoFn.setup, f"{value}: models sit in a process-wide cache"
            assert not hasattr(value, "process_batch") or value.process_batch is beam.DoFn.process_batch


def test_units_are_spread_over_workers(pipeline: proto.Pipeline) -> None:
    names = [transform.unique_name for transform in pipeline.components.transforms.values()]
    assert any("Reshuffle" in name for name in names), "a fused Create puts all units on one worker"


def test_elements_are_bytes_and_not_documents(pipeline: proto.Pipeline) -> None:
    urns = {coder.spec.urn for coder in pipeline.components.coders.values()}
    assert "beam:coder:bytes:v1" in urns


def test_counts_and_times_are_beam_metrics_where_the_runner_has_them(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "A few words."}, {"text": "几个字。"}, {"text": ""}])
    source = {"kind": "jsonl", "name": "rows", "paths": [str(tmp_path / "rows.jsonl")]}
    recipe = Recipe.model_validate({"sources": [source]})
    state = RunState(recipe, Files(tmp_path / "run"), list_files(recipe, lambda source: []))
    for job in (JOBS["fetch"], JOBS["extract"]):
        tasks = job.tasks(state)
        pipeline = beam.Pipeline(runner="FnApiRunner")
        graph.unit_graph(pipeline, job.name, tasks, state.files.root)
        metrics = pipeline.run().metrics().query()
        state.commits[job.name] = {task.unit: require(state.files, job.name, task.unit) for task in tasks}
    counters = {counter.key.metric.name: counter.committed for counter in metrics["counters"]}
    assert (counters["extract_records"], counters["extract_documents"], counters["extract_rejects"]) == (3, 2, 1)
    assert "extract_language_msec" in {times.key.metric.name for times in metrics["distributions"]}


def many_tasks(count: int) -> list[Task]:
    return [
        Task(job="extract", unit=f"crawl-{i:060}", fingerprint="f" * 64, spec={"x": "y" * 400}) for i in range(count)
    ]


def test_a_wave_fits_the_limit_of_10_mb() -> None:
    built = beam.Pipeline(runner="FnApiRunner")
    graph.unit_graph(built, "extract", many_tasks(1000), "/run")
    assert built.to_runner_api().ByteSize() < 1_000_000


def test_all_units_at_once_fit_it_too(tmp_path: Path) -> None:
    built = beam.Pipeline(runner="FnApiRunner")
    graph.grouping_graph(built, "dedup", many_tasks(20_000), str(tmp_path), shared_files=False)
    assert built.to_runner_api().ByteSize() < 2_000_000
