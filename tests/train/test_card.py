"""The model card: what was read of which dataset, over all changes that a run went through."""

from pathlib import Path

import pytest

from corpusmill.schemas.files import Files
from corpusmill.train.card import shares
from corpusmill.train.checkpoint import read_state
from tests.train.corpus import Document, write_dataset
from tests.train.runs import merged, resume, settings, train


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    """Two datasets, 1 : 3: one of two languages, one of sums."""
    english = [Document(f"Paragraph {i} of the first. " * 8, language="en", source="books") for i in range(8)]
    german = [Document(f"Absatz {i} des ersten. " * 8, language="de", source="books") for i in range(8)]
    write_dataset(tmp_path / "first", english + german)
    write_dataset(tmp_path / "second", [Document(f"{i} + {i} = {2 * i}. " * 20, source="sums") for i in range(30)])
    datasets = [{"path": str(tmp_path / "first"), "weight": 1}, {"path": str(tmp_path / "second"), "weight": 3}]
    return merged(settings(cache=tmp_path / "cache"), {"data": {"datasets": datasets}, "optim": {"batch": 4}})


def test_what_was_read_counts_over_changes_of_length_and_data(tmp_path: Path, values: dict[str, object]) -> None:
    train(tmp_path / "run", merged(values, {"stop_at": 6}))
    alone = {"data": {"datasets": [{"path": str(tmp_path / "first")}], "sequence_length": 8}}
    resume(tmp_path / "run", merged(values, alone), skip_steps=2)
    state, _ = read_state(Files(tmp_path / "run"), 12)
    first, second = (state.plan.read(12)[dataset.fingerprint] for dataset in state.datasets)
    # 6 steps of 4 samples of 32 tokens, dealt 1 : 3, then 6 steps of 4 samples of 8 tokens; skipped ones were not read
    assert (first.n_tokens, second.n_tokens) == (6 * 32 + 24 * 8, 18 * 32)
    card = (tmp_path / "run/step-12/model/README.md").read_text()
    assert f"| {first.n_tokens:,} | {first.epochs:.2f} |" in card
    assert f"| {second.n_tokens:,} | {second.epochs:.2f} |" in card, "it is not read any more, but it was"
    assert state.n_tokens <= first.n_tokens + second.n_tokens
    part = shares("source", state.datasets, state.plan.read(12))
    assert part == pytest.approx({"sums": 576 / 960, "books": 384 / 960})
    assert f"| books | {384 / 960:.1%} |" in card
    in_first = state.datasets[0].languages
    expected = 384 / 960 * in_first["de"] / sum(in_first.values())
    assert shares("language", state.datasets, state.plan.read(12))["de"] == pytest.approx(expected)


def test_scores_stand_in_the_card_of_a_finished_run(tmp_path: Path, values: dict[str, object]) -> None:
    train(tmp_path / "run", merged(values, {"eval": {"split": "train"}}))
    assert "## Evaluation" in (tmp_path / "run/step-12/model/README.md").read_text()
    assert "## Evaluation" not in (tmp_path / "run/step-8/model/README.md").read_text()
    read_state(Files(tmp_path / "run"), 12)  # the card is no part of what must not change
