"""The data plan against a walk over every sample of every segment."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpusmill.schemas.errors import UsageError
from corpusmill.train.data.order import BlockedOrder, GlobalOrder
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource
from tests.reference import mixture as reference

TAIL = 60
"""Samples of the last segment, which has no end, that the tests look at."""

Place = tuple[str, int, int]


def segment(first_step: int = 0, first_sample: int = 0, **changes: Any) -> Segment:
    """Settings of a run on two sources, with changes; `weights` and `n_windows` by name of the source."""
    weights = changes.pop("weights", {"a": 2, "b": 1})
    n_windows = {"a": 40, "b": 7, "c": 11} | changes.pop("n_windows", {})
    settings = {"batch": 6, "sequence_length": 8, "order": "global", "seed": 5} | changes
    sources = [SegmentSource(fingerprint=k, n_windows=n_windows[k], weight=v) for k, v in weights.items()]
    return Segment(first_step=first_step, first_sample=first_sample, sources=tuple(sources), **settings)


def plan_of(*segments: Segment) -> DataPlan:
    return DataPlan(segments=segments)


def walk(plan: DataPlan) -> list[tuple[Place, int | None]]:
    """For each sample, its place (fingerprint, epoch, index) and its step, by counting one by one."""
    found: list[tuple[Place, int | None]] = []
    streams: dict[str, tuple] = {}
    nexts: dict[str, tuple[int, int]] = {}  # epoch and index of the next draw of each source
    for k, current in enumerate(plan.segments):
        last = k == len(plan.segments) - 1
        end = current.first_sample + TAIL if last else plan.segments[k + 1].first_sample
        end_step = 10**9 if last else plan.segments[k + 1].first_step
        for source in current.sources:
            name = source.fingerprint
            stream = (source.n_windows, current.sequence_length, current.order, current.seed)
            if streams.setdefault(name, stream) != stream:
                epoch, index = nexts.get(name, (0, 0))
                nexts[name] = (epoch + 1, 0) if index else (epoch, 0)
                streams[name] = stream
        for sample in range(current.first_sample, end):
            offset = sample - current.first_sample
            weights = tuple(source.weight for source in current.sources)
            source = current.sources[reference.source(weights, current.seed, offset)]
            epoch, index = nexts.get(source.fingerprint, (0, 0))
            step = current.first_step + offset // current.batch
            found.append(((source.fingerprint, epoch, index), step if step < end_step else None))
            wraps = index + 1 == source.n_windows
            nexts[source.fingerprint] = (epoch + 1, 0) if wraps else (epoch, index + 1)
    return found


def places(plan: DataPlan, samples: Any) -> list[Place]:
    located = plan.locate(samples)
    names = [plan.fingerprints[k] for k in located.source.tolist()]
    return list(zip(names, located.epoch.tolist(), located.index.tolist(), strict=True))


@st.composite
def plans(draw: st.DrawFn) -> DataPlan:
    """Up to five segments, with any settings changed from one to the next."""
    weights = st.dictionaries(st.sampled_from("abc"), st.integers(0, 4), min_size=1).filter(lambda w: any(w.values()))
    segments: list[Segment] = []
    for _ in range(draw(st.integers(1, 5))):
        start, skipped = {"first_step": 0, "first_sample": 0}, []
        if segments:
            last = segments[-1]
            n_steps = draw(st.integers(0, 6))
            end = last.first_sample + n_steps * last.batch
            for length in draw(st.lists(st.integers(0, 20), max_size=2)):
                skipped.append((end, end + length))
                end += length
            start = {"first_step": last.first_step + n_steps, "first_sample": end}
        segments.append(
            segment(
                **start,
                skipped=tuple(skipped),
                weights=draw(weights),
                n_windows={"a": draw(st.sampled_from((3, 9)))},
                batch=draw(st.integers(1, 5)),
                sequence_length=draw(st.sampled_from((8, 8, 8, 16))),
                order=draw(st.sampled_from(("global", "global", "blocked"))),
                seed=draw(st.sampled_from((5, 5, 6))),
            )
        )
    return plan_of(*segments)


# Against the walk


@settings(deadline=None, max_examples=200)
@given(plans())
def test_every_sample_is_where_a_walk_meets_it(plan: DataPlan) -> None:
    walked = walk(plan)
    assert places(plan, range(len(walked))) == [place for place, _ in walked]
    assert [plan.step_of(sample) for sample in range(len(walked))] == [step for _, step in walked]


@settings(deadline=None)
@given(plans(), st.data())
def test_samples_may_be_asked_for_in_any_order(plan: DataPlan, data: st.DataObject) -> None:
    walked = walk(plan)
    samples = data.draw(st.lists(st.integers(0, len(walked) - 1), max_size=30))
    assert places(plan, samples) == [walked[sample][0] for sample in samples]


@settings(deadline=None)
@given(plans())
def test_steps_take_the_samples_that_are_not_skipped_each_once(plan: DataPlan) -> None:
    steps = [step for _, step in walk(plan)]
    taken = {sample: step for sample, step in enumerate(steps) if step is not None}
    last = max(taken.values())  # cut short by the end of the walk
    by_steps = [(sample, step) for step in range(last) for sample in plan.samples_of(step)]
    assert by_steps == [(sample, step) for sample, step in taken.items() if step < last]


@settings(deadline=None, max_examples=30)
@given(plans(), st.data())
def test_find_is_the_inverse_of_locate(plan: DataPlan, data: st.DataObject) -> None:
    sample_of = {place: sample for sample, (place, _) in enumerate(walk(plan))}
    for (name, epoch, index), sample in data.draw(st.permutations(list(sample_of.items())))[:10]:
        assert plan.find(plan.fingerprints.index(name), epoch, index) == sample
    start = plan.segments[-1].first_sample
    for name in plan.fingerprints:
        for epoch in range(3):
            for index in (0, 2, 5, 8, 11, -1):
                found = plan.find(plan.fingerprints.index(name), epoch, index)
                expected = sample_of.get((name, epoch, index))
                assert found == expected or (expected is None and found is not None and found >= start + TAIL)


@settings(deadline=None)
@given(plans(), st.data())
def test_consumed_counts_the_draws_of_each_dataset(plan: DataPlan, data: st.DataObject) -> None:
    walked = walk(plan)
    n = data.draw(st.integers(0, len(walked)))
    names = [place[0] for place, _ in walked[:n]]
    assert plan.consumed(n) == {name: names.count(name) for name in plan.fingerprints}


def test_far_and_scattered_samples_are_located_alone() -> None:
    plan = plan_of(segment(n_windows={"a": 10**9 + 7, "b": 999_983}), segment(10, 60, weights={"b": 3, "c": 1}))
    far = [10**17 + 5, 3, 10**12, 10**12 + 1, 10**12 + 5000, 59, 60]
    assert places(plan, far) == [places(plan, [sample])[0] for sample in far]
    for sample, (name, epoch, index) in zip(far, places(plan, far), strict=True):
        assert plan.find(plan.fingerprints.index(name), epoch, index) == sample


# What a run relies on


@pytest.mark.parametrize("order", ["global", "blocked"])
def test_every_window_comes_once_an_epoch_also_when_weights_and_batch_change_within(order: str) -> None:
    plan = plan_of(
        segment(order=order),
        segment(3, 18, order=order, weights={"b": 4, "a": 3}, batch=10),
        segment(5, 38, order=order, weights={"c": 1, "a": 9}, batch=1),
        segment(8, 41, order=order, weights={"a": 1, "b": 1, "c": 1}),
    )
    orders = {
        "a": GlobalOrder(40) if order == "global" else BlockedOrder(np.array([10, 0, 25, 5])),
        "b": GlobalOrder(7) if order == "global" else BlockedOrder(np.array([7])),
        "c": GlobalOrder(11) if order == "global" else BlockedOrder(np.array([4, 4, 3])),
    }
    windows = defaultdict(list)
    for step in range(100):
        for name, epoch, index in places(plan, plan.samples_of(step)):
            seed = plan.segment_at(step).seed
            [window] = orders[name].window(np.array([index]), seed=seed, source=name, epoch=epoch).tolist()
            windows[name, epoch].append(window)
    for name, whole_order in orders.items():
        epochs = sorted(epoch for found, epoch in windows if found == name)
        assert len(epochs) > 3
        for epoch in epochs[:-1]:
            assert sorted(windows[name, epoch]) == list(range(whole_order.n))


def test_windows_of_skipped_samples_do_not_come_back_in_that_epoch() -> None:
    plan = plan_of(segment(weights={"a": 1}), segment(2, 20, weights={"a": 1}, skipped=((12, 20),)))
    seen = [index for step in range(4) for _, _, index in places(plan, plan.samples_of(step))]
    assert seen == [*range(12), *range(20, 32)]
    assert plan.step_of(11) == 1
    assert plan.step_of(12) is plan.step_of(19) is None
    assert plan.step_of(20) == 2


@pytest.mark.parametrize(
    "change",
    [{"sequence_length": 16, "n_windows": {"a": 20, "b": 4}}, {"order": "blocked"}, {"seed": 6}],
    ids=lambda change: next(iter(change)),
)
def test_what_gives_other_windows_starts_a_fresh_epoch_of_every_source(change: dict[str, Any]) -> None:
    plan = plan_of(segment(batch=27), segment(1, 27, **change))
    before, after = places(plan, range(27)), places(plan, range(27, 40))
    for name, begun in (("a", 0), ("b", 1)):
        assert max(epoch for source, epoch, _ in before if source == name) == begun
        assert next(place for place in after if place[0] == name) == (name, begun + 1, 0)


def test_a_whole_epoch_is_not_followed_by_an_empty_one() -> None:
    plan = plan_of(segment(weights={"b": 1}, batch=7), segment(2, 14, weights={"b": 1}, sequence_length=16))
    assert places(plan, [13, 14]) == [("b", 1, 6), ("b", 2, 0)]


def test_only_the_source_whose_windows_changed_starts_a_fresh_epoch() -> None:
    plan = plan_of(segment(batch=27), segment(1, 27, n_windows={"a": 41}))
    drawn = plan.consumed(27)
    after = places(plan, range(27, 40))
    assert next(place for place in after if place[0] == "a") == ("a", 1, 0)
    assert next(place for place in after if place[0] == "b") == ("b", *divmod(drawn["b"], 7))


def test_a_source_that_paused_goes_on_where_it_stood() -> None:
    plan = plan_of(segment(), segment(1, 6, weights={"b": 1}), segment(3, 18))
    drawn = plan.consumed(6)["a"]
    assert next(place for place in places(plan, range(18, 30)) if place[0] == "a") == ("a", 0, drawn)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 8])
def test_ranks_together_see_the_same_batch_at_any_world_size(world: int) -> None:
    plan = plan_of(segment(batch=13), segment(2, 26, weights={"a": 1, "c": 1}, batch=10))
    for step in range(5):
        rows = np.array(plan.samples_of(step))
        dealt: list[Place | None] = [None] * rows.size
        for rank in range(world):
            dealt[rank::world] = places(plan, rows[rank::world])
        assert dealt == places(plan, rows)


def test_a_later_segment_changes_nothing_before_it() -> None:
    plan = plan_of(segment())
    longer = plan.append(segment(4, 24, weights={"c": 1, "a": 1}))
    assert longer.segments == (*plan.segments, segment(4, 24, weights={"c": 1, "a": 1}))
    assert longer.fingerprints == ("a", "b", "c")
    assert places(longer, range(24)) == places(plan, range(24))
    assert [longer.segment_at(step).first_step for step in (0, 3, 4, 99)] == [0, 0, 4, 4]


def test_the_schedule_is_pinned() -> None:
    """Runs are resumed and traced by it: it never changes."""
    plan = plan_of(segment(), segment(2, 15, skipped=((12, 15),), weights={"b": 1, "c": 3}))
    schedule = " ".join(f"{name}{epoch}.{index}" for name, epoch, index in places(plan, range(24)))
    assert schedule == (
        "a0.0 a0.1 a0.2 a0.3 b0.0 a0.4 a0.5 b0.1 a0.6 b0.2 a0.7 a0.8 b0.3 a0.9 a0.10 "
        "c0.0 b0.4 c0.1 b0.5 c0.2 c0.3 b0.6 c0.4 c0.5"
    )


# The file


@settings(deadline=None)
@given(plans())
def test_json_and_back(plan: DataPlan) -> None:
    again = DataPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.model_dump_json() == plan.model_dump_json()
    assert places(again, range(100)) == places(plan, range(100))


def test_the_json_of_a_segment() -> None:
    one = segment(tombstones={"a": "12ab", "b": ""}, weights={"a": 3})
    assert one.model_dump(mode="json") == {
        "first_step": 0,
        "first_sample": 0,
        "batch": 6,
        "sequence_length": 8,
        "sources": [{"fingerprint": "a", "n_windows": 40, "weight": 3}],
        "order": "global",
        "skipped": [],
        "tombstones": {"a": "12ab", "b": ""},
        "seed": 5,
    }


@pytest.mark.parametrize("where", ["plan", "segment", "source"])
def test_unknown_fields_are_refused(where: str) -> None:
    data = plan_of(segment()).model_dump(mode="json")
    part = {"plan": data, "segment": data["segments"][0], "source": data["segments"][0]["sources"][0]}[where]
    part["shuffle"] = True
    with pytest.raises(ValidationError, match=r"shuffle\n.*not permitted"):
        DataPlan.model_validate(data)


@pytest.mark.parametrize(
    ("field", "value"), [("batch", 0), ("sequence_length", 0), ("order", "random"), ("n_windows", {"a": 0})]
)
def test_values_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        segment(**{field: value})


def test_a_plan_has_a_segment() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        DataPlan(segments=())


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([("a", 1), ("a", 2)], r"named twice in \['a', 'a'\]"),
        ([("a", 0), ("b", 0)], r"weights are \[0, 0\]"),
        ([], r"weights are \[\]"),
    ],
)
def test_sources_that_cannot_be_dealt_are_refused(sources: list[tuple[str, int]], message: str) -> None:
    entries = tuple(SegmentSource(fingerprint=name, n_windows=5, weight=weight) for name, weight in sources)
    with pytest.raises(UsageError, match=message):
        Segment(first_step=0, first_sample=0, batch=1, sequence_length=8, sources=entries, order="global", seed=0)


@pytest.mark.parametrize(
    ("step", "sample", "skipped", "message"),
    [
        (9, 60, (), r"starts at step 9, but the one before it at step 10"),
        (12, 60, (), r"starts at sample 60, but the one before it, with the ranges skipped, ends at sample 72"),
        (12, 75, (), r"starts at sample 75, but .* ends at sample 72"),
        (12, 75, ((72, 74),), r"starts at sample 75, but .* ends at sample 74"),
        (12, 75, ((70, 75),), r"skips samples 70 to 75, expected a range that starts at 72"),
        (12, 75, ((72, 73), (74, 75)), r"skips samples 74 to 75, expected a range that starts at 73"),
        (12, 71, ((72, 71),), r"skips samples 72 to 71"),
    ],
)
def test_a_segment_that_starts_elsewhere_is_refused(
    step: int, sample: int, skipped: tuple[tuple[int, int], ...], message: str
) -> None:
    plan = plan_of(segment(), segment(10, 60))
    with pytest.raises(UsageError, match=message):
        plan.append(segment(step, sample, skipped=skipped))


@pytest.mark.parametrize("start", [{"first_step": 1}, {"first_sample": 6}, {"first_sample": 6, "skipped": ((0, 6),)}])
def test_a_plan_starts_at_the_beginning(start: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected step 0, sample 0"):
        plan_of(segment(**start))


def test_steps_and_samples_below_zero_are_refused() -> None:
    plan = plan_of(segment())
    for call in (plan.samples_of, plan.segment_at, plan.step_of, plan.consumed, lambda n: plan.locate([0, n])):
        with pytest.raises(IndexError, match=r"-1, expected 0 or more"):
            call(-1)
