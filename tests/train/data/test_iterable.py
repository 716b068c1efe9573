"""`open_dataset`: samples for other people's training loops, in our order, with a state."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from corpusmill.schemas.errors import UsageError
from corpusmill.train import open_dataset
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.iterable import TokenSamples
from corpusmill.train.data.loader import IGNORE, Loader
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource
from tests.train.corpus import PAD, small_dataset

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


def test_a_state_of_another_sequence_is_refused_with_both(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"'seed': 1.*'seed': 0"):
        opened(folder).load_state_dict(opened(folder, seed=1).state_dict())
    with pytest.raises(UsageError, match="rank is 2 of 2"):
        opened(folder, rank=2, world=2)


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
