"""Rows of a process: the same global batches however many processes there are, and what a model sees of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpusmill.schemas.errors import SchemaError
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.loader import IGNORE, Loader, split_rows
from corpusmill.train.data.order import GlobalOrder
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource
from tests.train.corpus import EOS, PAD, Document, forget, write_dataset

LENGTH = 32
Datasets = dict[str, TokenDataset]


def texts(n: int, of: str) -> list[Document]:
    return [Document(f"{of} {i}: " + "word " * (i % 7 * 5)) for i in range(n)]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    folder = tmp_path_factory.mktemp("datasets")
    opened = []
    for name, n in (("first", 20), ("second", 31)):
        write_dataset(folder / name, texts(n, name))
        opened.append(TokenDataset.open(str(folder / name), cache=folder / "cache"))
    return {dataset.fingerprint: dataset for dataset in opened}


def segment(
    datasets: Datasets, *, batch: int, weights: tuple[int, ...] = (3, 1), step: int = 0, sample: int = 0
) -> Segment:
    return Segment(
        first_step=step,
        first_sample=sample,
        batch=batch,
        sequence_length=LENGTH,
        sources=tuple(
            SegmentSource(fingerprint=name, n_windows=dataset.n_windows(LENGTH), weight=weight)
            for (name, dataset), weight in zip(datasets.items(), weights, strict=True)
        ),
        order="global",
        seed=7,
    )


def plan(datasets: Datasets) -> DataPlan:
    """Two segments: other weights and another batch from step 9 on, in the middle of an epoch."""
    first = segment(datasets, batch=5)
    return DataPlan(segments=(first, segment(datasets, batch=6, weights=(1, 2), step=9, sample=45)))


def global_batches(datasets: Datasets, world: int, first: int, last: int) -> list[NDArray[np.int64]]:
    """What the processes of a world of that size get together, in the order of the rows."""
    ranks = [list(Loader(plan(datasets), datasets, rank=r, world=world).read(first, last)) for r in range(world)]
    return [np.stack(rows, axis=1).reshape(-1, LENGTH + 1) for rows in zip(*ranks, strict=True)]


@pytest.mark.parametrize("world", [2, 3, 4, 6, 8])
def test_any_number_of_processes_reads_the_same_batches(datasets: Datasets, world: int) -> None:
    for whole, dealt in zip(global_batches(datasets, 1, 0, 20), global_batches(datasets, world, 0, 20), strict=True):
        np.testing.assert_array_equal(dealt[: len(whole)], whole)
        assert (dealt[len(whole) :] == -1).all(), "a batch that they do not divide is completed with masked rows"


def test_a_batch_is_what_the_plan_says(datasets: Datasets) -> None:
    # sample by sample, from the plan and the order, without the loader
    names = list(datasets)
    for step, rows in zip(range(12), Loader(plan(datasets), datasets).read(0, 12), strict=True):
        samples = np.array(plan(datasets).samples_of(step))
        located = plan(datasets).locate(samples)
        source, epoch, index = located.source, located.epoch, located.index
        for row, s, e, i in zip(rows, source.tolist(), epoch.tolist(), index, strict=True):
            dataset = datasets[names[s]]
            order = GlobalOrder(dataset.n_windows(LENGTH))
            window = order.window(np.array([i]), seed=7, source=names[s], epoch=e)
            np.testing.assert_array_equal(row, dataset.windows(window, LENGTH)[0])


@given(first=st.integers(0, 30), n=st.integers(0, 10))
@settings(max_examples=20, deadline=None)
def test_it_begins_anywhere(datasets: Datasets, first: int, n: int) -> None:
    from_the_start = list(Loader(plan(datasets), datasets).read(0, first + n))[first:]
    ahead = list(Loader(plan(datasets), datasets).steps(first, first + n))
    assert len(ahead) == n
    for a, b in zip(from_the_start, ahead, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_of_the_reading_thread_is_raised_where_rows_are_awaited(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise SchemaError("the shard is another one")

    monkeypatch.setattr(TokenDataset, "windows", broken)
    with pytest.raises(SchemaError, match="another one"):
        next(Loader(plan(datasets), datasets).steps(0, 3))


def test_a_loop_that_is_left_ends_the_thread(datasets: Datasets) -> None:
    import threading

    steps = Loader(plan(datasets), datasets).steps(0, 1000)
    next(steps)
    steps.close()
    assert "loader" not in {thread.name for thread in threading.enumerate()}


def test_a_tombstone_changes_its_own_positions_only(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", texts(20, "first"))
    before = TokenDataset.open(str(tmp_path / "data"), cache=tmp_path / "cache")
    shard = before.manifest.shards[0].name
    forget(tmp_path / "data", [(shard, 3)])
    after = TokenDataset.open(str(tmp_path / "data"), cache=tmp_path / "cache")
    one = {before.fingerprint: before}
    old, new = (
        np.concatenate(
            list(Loader(DataPlan(segments=(segment(one, batch=4, weights=(1,)),)), {d.fingerprint: d}).read(0, 20))
        )
        for d in (before, after)
    )
    assert (new == -1).sum() > (old == -1).sum()
    changed = old != new
    assert (new[changed] == -1).all()
    forgotten = bytes(old[changed] - min(125, old[changed].min())).decode("latin1")
    assert len(forgotten) >= len(texts(20, "first")[3].text)


def test_what_a_model_sees_of_a_row() -> None:
    a, b, c, d = 200, 201, 202, 203
    rows = torch.tensor([[EOS, a, b, EOS, -1, -1, EOS, c, d], [b, EOS, c, -1, -1, -1, -1, -1, -1]])
    ids, targets, segments = split_rows(rows, eos=EOS, pad=PAD)
    assert ids.tolist() == [[EOS, a, b, EOS, PAD, PAD, EOS, c], [b, EOS, c, PAD, PAD, PAD, PAD, PAD]]
    # the <eos> after b is its target; the one before the forgotten document predicts nothing, nor does anything in it
    assert targets.tolist() == [
        [a, b, EOS, IGNORE, IGNORE, IGNORE, c, d],
        [EOS, c, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE],
    ]
    assert segments.tolist() == [[1, 1, 1, 2, -1, -1, 3, 3], [0, 1, 1, -1, -1, -1, -1, -1]]
