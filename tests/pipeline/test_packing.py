"""Units into shards: by size alone, the same whatever order they come in."""

from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.packing import ShardPlan, pack

Survivors = dict[str, dict[str, list[int]]]


def pieces(plans: list[ShardPlan]) -> list[tuple[str, str, int]]:
    return [(plan.split, unit, group) for plan in plans for unit, groups in plan.pieces for group in groups]


def test_small_units_share_a_shard_and_a_large_one_is_cut() -> None:
    plans = pack({"a": {"train": [40]}, "b": {"train": [50]}, "c": {"train": [60, 60, 60]}}, 100, 0)
    sizes = {"a": [40], "b": [50], "c": [60, 60, 60]}
    for plan in plans:
        assert sum(sizes[unit][group] for unit, groups in plan.pieces for group in groups) <= 100
    assert sorted(pieces(plans)) == [("train", u, g) for u in "abc" for g in range(len(sizes[u]))]
    assert [plan.name for plan in plans] == [f"data/train-000-{i:05d}.parquet" for i in range(len(plans))]


def test_an_empty_split_has_no_shard_and_empty_row_groups_are_not_read() -> None:
    plans = pack({"a": {"train": [0, 7, 0], "validation": []}, "b": {}}, 100, 3)
    assert [(plan.name, plan.pieces) for plan in plans] == [("data/train-003-00000.parquet", (("a", (1,)),))]


units = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["train", "validation"]), st.lists(st.integers(0, 90), max_size=5)),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(units, st.integers(1, 200), st.randoms())
def test_every_row_group_with_survivors_is_in_exactly_one_shard(survivors: Survivors, target: int, random) -> None:
    plans = pack(survivors, target, 0)
    wanted = [(s, u, g) for u, by in survivors.items() for s, sizes in by.items() for g, n in enumerate(sizes) if n]
    assert sorted(pieces(plans)) == sorted(wanted)
    shuffled = list(survivors.items())
    random.shuffle(shuffled)
    assert pack(dict(shuffled), target, 0) == plans
    for plan in plans:
        size = sum(survivors[u][plan.split][g] for u, groups in plan.pieces for g in groups)
        assert size <= target or len(pieces([plan])) == 1, "only a single row group may be larger"
