"""`open_dataset`: samples for other people's training loops, in our order, with a state."""

import json
import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from corpusmill.schemas.errors import UsageError
from corpusmill.train import open_dataset
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.iterable import TokenSamples
from corpusmill.train.data.loader import IGNORE, Loader, split_rows
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource
from tests.train.corpus import EOS, PAD, Document, forget, read_manifest, small_dataset, write_dataset

LENGTH = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    small_dataset(folder / "data")
    return folder


def opened(folder: Path, **options: object) -> TokenSamples:
    return open_dataset(str(folder / "data"), sequence_length=LENGTH, cache=folder / "cache", **options)  # type: ignore[arg-type]


def ids(samples: object) -> list[list[int]]:
    return [sample["input_ids"].tolist() for sample in samples]  # type: ignore[attr-defined]


def test_samples_are_those_of_a_training_run(folder: Path) -> None:
    dataset = TokenDataset.open(str(folder / "data"), cache=folder / "cache")
    source = SegmentSource(fingerprint=dataset.fingerprint, n_windows=dataset.n_windows(LENGTH), weight=1)
    segment = Segment(
        first_step=0, first_sample=0, batch=10, sequence_length=LENGTH, sources=(source,), order="global", seed=3
    )
    rows = [
        row
        for batch in Loader(DataPlan(segments=(segment,)), {dataset.fingerprint: dataset}).read(0, 5)
        for row in batch
    ]
    for sample, row in zip(opened(folder, seed=3), rows, strict=False):
        alive = torch.from_numpy(row) >= 0
        assert sample["input_ids"][alive].tolist() == sample["labels"][alive].tolist() == row[row >= 0].tolist()
        assert (sample["input_ids"][~alive] == PAD).all()
        assert (sample["labels"][~alive] == IGNORE).all()


def test_what_counts_is_what_counts_in_training(tmp_path: Path) -> None:
    """The targets of `split_rows`: none in a forgotten document, and not the <eos> behind it."""
    write_dataset(tmp_path / "data", [Document(f"The text number {i}, of a few words.") for i in range(20)])
    forget(tmp_path / "data", [(read_manifest(tmp_path / "data").shards[0].name, 3)])
    dataset = TokenDataset.open(str(tmp_path / "data"), cache=tmp_path / "cache")
    n = dataset.n_windows(LENGTH)
    rows = torch.from_numpy(dataset.windows(np.arange(n), LENGTH))
    assert ((rows[:, :-1] < 0) & (rows[:, 1:] >= 0)).sum() == 1, "a live token behind the forgotten ones, in a row"
    inputs = split_rows(rows, eos=EOS, pad=PAD)
    samples = list(open_dataset(str(tmp_path / "data"), sequence_length=LENGTH, cache=tmp_path / "cache"))
    found = sorted([sample["input_ids"][:-1].tolist(), sample["labels"][1:].tolist()] for sample in samples)
    assert found == sorted(map(list, zip(inputs.ids.tolist(), inputs.targets.tolist(), strict=True)))


def test_an_epoch_is_every_window_once(folder: Path) -> None:
    once, twice = opened(folder), opened(folder, epochs=2)
    assert len(ids(once)) == len(once) == len(twice) // 2
    assert sorted(ids(twice)) == sorted(ids(once) * 2)
    assert ids(twice)[: len(once)] == ids(once)
    assert ids(twice)[len(once) :] != ids(once), "each epoch has an order of its own"
    with pytest.raises(TypeError, match="epochs"):
        len(opened(folder, epochs=None))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_processes_and_workers_share_the_samples(folder: Path, n_workers: int) -> None:
    whole = ids(opened(folder))
    shared = []
    for rank in range(3):
        mine = opened(folder, rank=rank, world=3)
        batches = list(DataLoader(mine, batch_size=4, num_workers=n_workers))
        found = [row for batch in batches for row in batch["input_ids"].tolist()]
        assert len(found) == len(mine)
        shared += found
    assert sorted(shared) == sorted(whole)


def test_a_state_goes_on_exactly(folder: Path) -> None:
    whole = ids(opened(folder))
    samples = opened(folder)
    given = iter(samples)
    first = [next(given)["input_ids"].tolist() for _ in range(7)]
    again = opened(folder)
    again.load_state_dict(samples.state_dict())
    assert first + ids(again) == whole


def test_each_iterator_begins_with_the_first_sample(folder: Path) -> None:
    samples = opened(folder)
    whole = ids(samples)
    next(iter(samples))  # a look at the first loses nothing
    for _ in islice(samples, 5):  # nor does a loop that is left
        pass
    assert ids(samples) == ids(samples) == whole
    one, two = iter(samples), iter(samples)
    mixed = [(next(one)["input_ids"].tolist(), next(two)["input_ids"].tolist()) for _ in range(5)]
    assert mixed == [(row, row) for row in whole[:5]]


def test_the_state_is_that_of_the_iterator_made_last(folder: Path) -> None:
    samples = opened(folder)
    one = iter(samples)
    list(islice(one, 7))
    assert samples.state_dict()["given"] == 7
    two = iter(samples)
    list(islice(two, 2))
    next(one)
    assert samples.state_dict()["given"] == 2


def test_a_state_is_used_once(folder: Path) -> None:
    samples = opened(folder)
    whole = ids(samples)
    list(islice(samples, 7))
    again = opened(folder)
    again.load_state_dict(json.loads(json.dumps(samples.state_dict())))
    assert again.state_dict() == samples.state_dict()
    went_on, anew = iter(again), iter(again)  # used by the first to be made, whichever is read first
    assert ids(anew) == whole
    assert ids(went_on) == whole[7:]


def test_nothing_is_left_of_a_finished_pass(folder: Path) -> None:
    samples = opened(folder)
    whole = ids(samples)
    again = opened(folder)
    again.load_state_dict(samples.state_dict())
    assert ids(again) == []
    assert ids(again) == whole


def test_a_state_goes_to_as_many_readers_as_it_is_of(folder: Path) -> None:
    samples = opened(folder, rank=1, world=2)
    list(islice(samples, 3))
    with pytest.raises(UsageError, match="of 2 processes and workers that share the samples, but here are 3; take as"):
        resumed(opened(folder, rank=1, world=3), samples.state_dict())
    beginning = opened(folder, world=2).state_dict()
    assert len(ids(resumed(opened(folder, world=3), beginning))) > 0, "nothing was given yet"


def resumed(samples: TokenSamples, state: dict[str, object]) -> Iterator[dict[str, torch.Tensor]]:
    samples.load_state_dict(state)
    return iter(samples)


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"given": -1},
        {"given": "7"},
        {"given": True},
        {"readers": 0},
        {"plan": None},
        {"plan": {"segments": []}},
        {"plan": {"segments": [{"first_step": 0}]}},
    ],
    ids=str,
)
def test_what_is_no_state_is_refused(folder: Path, change: dict[str, object] | None) -> None:
    samples = opened(folder)
    whole = ids(samples)
    state = {} if change is None else samples.state_dict() | change
    with pytest.raises(UsageError, match="is not what state_dict of these samples gives; load what it gave"):
        samples.load_state_dict(state)
    assert ids(samples) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 0}, "sequence_length is 0; give a number of tokens, 1 or more"),
        ({"order": "random"}, "order is 'random'; give global or blocked"),
        ({"seed": -1}, "seed is -1; give a whole number, 0 or more"),
        ({"epochs": 0}, "epochs is 0; give 1 or more, or None for samples without end"),
        ({"epochs": -1}, "epochs is -1; give 1 or more"),
        ({"world": 0}, "world is 0; give the number of processes"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2 processes; give 0 to 1"),
        ({"rank": -1}, "rank is -1 of 1 processes; give 0 to 0"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(str(folder / "data"), **{"sequence_length": LENGTH, "cache": folder / "cache"} | options)  # type: ignore[arg-type]


def test_a_split_without_tokens_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", [Document("")])
    with pytest.raises(UsageError, match="the split 'train' has no tokens to train on"):
        open_dataset(str(tmp_path / "data"), sequence_length=LENGTH, cache=tmp_path / "cache")


def test_samples_without_end_have_none(folder: Path) -> None:
    n = len(opened(folder))
    endless = ids(islice(opened(folder, epochs=None), 3 * n))
    assert endless == ids(opened(folder, epochs=3))


def test_a_state_of_another_sequence_is_refused_with_both(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"'seed': 1.*'seed': 0"):
        opened(folder).load_state_dict(opened(folder, seed=1).state_dict())


def test_a_plain_loop_learns(folder: Path) -> None:
    # as the README shows it: labels are not shifted
    model = torch.nn.Embedding(512, 512)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    losses = []
    for batch in DataLoader(opened(folder, epochs=2), batch_size=8):
        logits = model(batch["input_ids"][:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 2


def test_samples_travel_to_workers_that_are_spawned(folder: Path) -> None:
    samples = opened(folder)
    assert ids(pickle.loads(pickle.dumps(samples))) == ids(samples)
    assert len(pickle.dumps(samples)) < 100_000, "without the tokens"
