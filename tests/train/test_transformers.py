"""Our datasets in the Trainer of transformers, and our exports in its classes."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch

from corpusmill.train import open_dataset
from corpusmill.train.export import export
from tests.train.corpus import small_dataset
from tests.train.runs import settings, train

LENGTH = 32


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and the export of a run on it."""
    folder = tmp_path_factory.mktemp("transformers")
    small_dataset(folder / "dataset")
    train(folder / "run", settings(folder / "dataset", cache=folder / "cache"))
    export(str(folder / "run"), str(folder / "model"))
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_reads_our_samples(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    class Recorder(Trainer):
        seen: ClassVar[list[list[int]]] = []

        def training_step(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *rest: object) -> torch.Tensor:
            self.seen.extend(inputs["input_ids"].tolist())
            return super().training_step(model, inputs, *rest)

    # as docs/training.md shows it
    samples = open_dataset(str(folder / "dataset"), sequence_length=LENGTH, epochs=None, cache=folder / "cache")
    trainer = Recorder(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        args=TrainingArguments(
            output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, report_to="none", use_cpu=True
        ),
        train_dataset=samples,
    )
    loss = trainer.train().training_loss
    assert loss < 6
    ours = open_dataset(str(folder / "dataset"), sequence_length=LENGTH, cache=folder / "cache")
    assert Recorder.seen == [sample["input_ids"].tolist() for sample, _ in zip(ours, range(12), strict=False)]


def test_the_export_is_the_model(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from corpusmill.train import load_model
    from corpusmill.train.generation import generate_ids

    ours = load_model(str(folder / "run"), device="cpu")
    theirs = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    text = "The administrator 管理员 🦉"
    ids = [ours.eos, *ours.tokenizer.encode(text).ids]
    assert tokenizer(text)["input_ids"] == ids[1:]
    assert tokenizer.decode(ids[1:]) == text
    with torch.no_grad():
        torch.testing.assert_close(
            ours.model(torch.tensor([ids])), theirs(torch.tensor([ids])).logits, rtol=0, atol=1e-5
        )
    (greedy,) = generate_ids(ours.model, [ids[:8]], max_new_tokens=20)
    expected = theirs.generate(torch.tensor([ids[:8]]), max_new_tokens=20, do_sample=False)[0, 8:].tolist()
    assert greedy[: len(expected)] == expected
