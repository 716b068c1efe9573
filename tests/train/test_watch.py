"""What a run tells on its way, whom it lets in, and what it does when it is asked to stop at a bad moment."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corpusmill.cli.main import main
from corpusmill.schemas import lease
from corpusmill.schemas.errors import LeaseError, SchemaError
from corpusmill.schemas.files import Files
from corpusmill.train import run as run_module
from corpusmill.train.checkpoint import committed_steps
from corpusmill.train.data.dataset import TokenDataset
from tests.train.corpus import read_manifest, small_dataset
from tests.train.runs import log, settings, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small_dataset(folder / "data")
    return folder


def values(folder: Path, **changes: object) -> dict[str, object]:
    return settings(folder / "data", cache=folder / "cache", **changes)


def records(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_scores_and_samples_along_the_way(folder: Path, tmp_path: Path) -> None:
    wanted = {"every": 5, "prompts": ["The ", "在"], "max_new_tokens": 3, "max_documents": 1}
    train(tmp_path / "run", values(folder, eval=wanted))
    told = [record for record in records(tmp_path / "run") if "samples" in record]
    assert [record["step"] for record in told] == [5, 10, 12]
    assert [sample["prompt"] for sample in told[0]["samples"]] == ["The ", "在"]  # type: ignore[attr-defined]
    languages = [list(record["eval"]["languages"]) for record in told]  # type: ignore[index]
    assert [len(found) for found in languages] == [1, 1, 2], "one document on the way, all at the end"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_scoring_and_loses_no_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def score(*_: object, **options: object) -> None:
        os.kill(os.getpid(), number)
        assert options["stop"]()  # type: ignore[operator]

    monkeypatch.setattr(run_module, "score", score)
    outcome = train(tmp_path / "run", values(folder, eval={"every": 3}))
    # the scores of step 3 were broken off; the step that learns of it is the last
    assert (outcome.step, outcome.signal) == (4, number)
    assert committed_steps(Files(tmp_path / "run")) == [4]
    monkeypatch.setattr(run_module, "score", score)
    outcome = train(tmp_path / "other", values(folder))
    assert outcome.step == 12
    assert 12 in committed_steps(Files(tmp_path / "other")), "kept before it is scored"


def test_one_run_holds_its_folder(folder: Path, tmp_path: Path) -> None:
    code = """
import sys
from corpusmill.schemas import lease
from corpusmill.schemas.files import Files
with lease.hold(Files(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LeaseError, match="is held by process"):
            train(tmp_path / "run", values(folder))
        other.communicate("")
    assert train(tmp_path / "run", values(folder, stop_at=1)).step == 1
    assert lease.holder(Files(tmp_path / "run")) is None


def test_what_is_changed_on_resume_is_listed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run", values(folder, stop_at=4))
    arguments = [
        "train",
        "--out",
        str(tmp_path / "run"),
        "--resume",
        "--set",
        "optim.batch=4",
        "--set",
        "optim.lr=0.02",
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "goes on after step 4" in said
    assert "changed: optim.batch from 5 to 4" in said
    assert "changed: optim.lr from 0.01 to 0.02" in said
    assert "the data plan has a new segment from step 4 on" in said
    for setting, words in (
        ("precision=bf16", "precision is bf16 here, but the run is in fp32"),
        ("data.split=validation", "data.split"),
    ):
        assert main([*arguments, "--set", setting, "--set", "optim.steps=20"]) == 2
        assert words in capsys.readouterr().err


def test_scores_need_no_decoded_tokens_and_no_damaged_shard(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_dataset(tmp_path / "data")
    monkeypatch.setenv("CORPUSMILL_CACHE", str(tmp_path / "cache"))
    dataset = TokenDataset.open(str(tmp_path / "data"), split="validation", decode=False)
    assert sum(batch.num_rows for batch in dataset.documents(["input_ids"])) == dataset.n_documents
    assert not (tmp_path / "cache").exists()
    name = next(shard.name for shard in read_manifest(tmp_path / "data").shards if shard.split == "validation")
    data = bytearray((tmp_path / "data" / name).read_bytes())
    data[len(data) // 3] ^= 1
    (tmp_path / "data" / name).write_bytes(data)
    with pytest.raises(SchemaError, match="has sha256"):
        list(dataset.documents(["input_ids"]))


def test_a_log_has_one_object_a_step(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", values(folder))
    assert [record["step"] for record in log(tmp_path / "run")] == list(range(1, 13))
