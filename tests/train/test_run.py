"""Runs that stop and go on: the same bits in one process, the same numbers on any number of processes."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpusmill.schemas.errors import CorpusmillError, SchemaError, UsageError
from corpusmill.schemas.files import Files
from corpusmill.train.checkpoint import committed_steps, read_state
from corpusmill.train.config import load_config
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.loader import Loader
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder, init_weights
from tests.train.corpus import EOS, Document, forget, read_manifest, small_dataset, write_dataset
from tests.train.runs import SMALL, log, merged, resume, settings, tensors, torchrun, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets; in the first one a document is forgotten."""
    folder = tmp_path_factory.mktemp("data")
    small_dataset(folder / "first")
    forget(folder / "first", [(read_manifest(folder / "first").shards[0].name, 2)])
    write_dataset(folder / "second", [Document(f"{i} times {i} is {i * i}. " * 9, source="sums") for i in range(30)])
    return folder


def values(folder: Path, **changes: Any) -> dict[str, Any]:
    datasets = [{"path": str(folder / "first"), "weight": 2}, {"path": str(folder / "second"), "weight": 1}]
    return merged(settings(cache=folder / "cache"), merged({"data": {"datasets": datasets}}, changes))


def close(a: Path, b: Path, tolerance: float) -> None:
    """Losses, gradient norms and weights of two runs agree."""
    for one, other in zip(log(a), log(b), strict=True):
        assert one["tokens"] == other["tokens"]
        assert math.isclose(one["loss"], other["loss"], rel_tol=0, abs_tol=tolerance), (one, other)
        assert math.isclose(one["grad_norm"], other["grad_norm"], rel_tol=10 * tolerance), (one, other)
    theirs = tensors(b)
    for name, tensor in tensors(a).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def equal(a: Path, b: Path) -> None:
    """Two runs are the same, bit for bit; one that was stopped is scored there, too."""
    without = [[{key: value for key, value in line.items() if key != "eval"} for line in log(run)] for run in (a, b)]
    assert without[0] == without[1]
    theirs = tensors(b)
    assert tensors(a).keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in tensors(a).items())


# --- going on


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(folder: Path, tmp_path: Path, name: str) -> None:
    changed = {"optim": {"name": name}, "eval": {"every": 6}}
    train(tmp_path / "whole", values(folder, **changed))
    train(tmp_path / "parts", values(folder, **changed, stop_at=5))
    assert len(log(tmp_path / "parts")) == 5
    resume(tmp_path / "parts", values(folder, **changed, stop_at=6))
    outcome = resume(tmp_path / "parts", values(folder, **changed))
    assert outcome.step == 12
    equal(tmp_path / "whole", tmp_path / "parts")
    assert [record["step"] for record in log(tmp_path / "parts") if "eval" in record][-1] == 12


def test_bf16_too(folder: Path, tmp_path: Path) -> None:
    changed = {"precision": "auto", "optim": {"name": "muon"}}
    train(tmp_path / "whole", values(folder, **changed))
    train(tmp_path / "parts", values(folder, **changed, stop_at=7))
    resume(tmp_path / "parts", values(folder, **changed))
    equal(tmp_path / "whole", tmp_path / "parts")


def test_micro_batches_change_nothing(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "whole", values(folder))
    train(tmp_path / "parts", values(folder, optim={"micro_batch": 2}))
    close(tmp_path / "whole", tmp_path / "parts", 1e-5)


def test_a_change_of_weights_and_batch_is_a_segment_of_the_plan(folder: Path, tmp_path: Path) -> None:
    changed = values(folder, optim={"batch": 4})
    changed["data"]["datasets"][1]["weight"] = 5
    for stop in (9, 7):
        train(tmp_path / f"run{stop}", values(folder, stop_at=6))
        resume(tmp_path / f"run{stop}", {**changed, "stop_at": stop})
        resume(tmp_path / f"run{stop}", changed)
    equal(tmp_path / "run9", tmp_path / "run7")
    state, _ = read_state(Files(tmp_path / "run9"), 12)
    first, second = state.plan.segments
    assert (first.batch, second.first_step, second.first_sample, second.batch) == (5, 6, 30, 4)
    assert [source.weight for source in second.sources] == [2, 5]


def test_skipped_steps_pass_over_their_data(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", values(folder, stop_at=6))
    resume(tmp_path / "run", values(folder), skip_steps=3)
    state, _ = read_state(Files(tmp_path / "run"), 12)
    assert state.plan.segments[1].skipped == ((30, 45),)
    assert state.plan.samples_of(6).start == 45


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed is 1, but the run has 0"),
        ({"data": {"order": "blocked"}}, "data.order is blocked, but the run has global"),
        ({"data": {"document_mask": False}}, "data.document_mask is False"),
        ({"model": {"dim": 64}}, "model.dim is 64, but the run has 32"),
        ({"optim": {"name": "sgd"}}, "optim.name is sgd, but the run has adamw"),
    ],
)
def test_what_would_be_another_run_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    train(tmp_path / "run", values(folder, stop_at=4))
    before = log(tmp_path / "run")
    with pytest.raises(UsageError, match=words):
        resume(tmp_path / "run", values(folder, **changes))
    assert log(tmp_path / "run") == before


def test_a_dataset_that_was_made_again_is_refused(tmp_path: Path) -> None:
    small_dataset(tmp_path / "first")
    train(tmp_path / "run", settings(tmp_path / "first", cache=tmp_path / "cache", stop_at=4))
    before = read_manifest(tmp_path / "first").fingerprint
    after = small_dataset(tmp_path / "first", documents=30).fingerprint
    with pytest.raises(UsageError, match=f"{after}.*{before}"):
        resume(tmp_path / "run", settings(tmp_path / "first", cache=tmp_path / "cache"))


def test_a_run_that_is_done_is_done(folder: Path, tmp_path: Path) -> None:
    # a job that is queued again until it succeeds ends
    train(tmp_path / "run", values(folder))
    before = tensors(tmp_path / "run")
    outcome = resume(tmp_path / "run", values(folder))
    assert (outcome.step, outcome.signal) == (12, 0)
    assert resume(tmp_path / "run", values(folder, stop_at=3)).step == 12
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(tmp_path / "run").items())


def test_an_imported_model_is_not_needed_any_more(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "first", values(folder, stop_at=2))
    imported = values(folder, stop_at=3)
    imported["model"] = {"path": str(tmp_path / "first")}
    train(tmp_path / "run", imported)
    shutil.rmtree(tmp_path / "first")
    assert resume(tmp_path / "run", {**imported, "stop_at": 5}).step == 5


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"files": {}}'])
def test_a_damaged_commit_record_is_named(folder: Path, tmp_path: Path, content: str) -> None:
    train(tmp_path / "run", values(folder, stop_at=4))
    (tmp_path / "run/step-4/commit.json").write_text(content)
    with pytest.raises(SchemaError, match=r"step-4/commit.json is no commit record.*remove"):
        resume(tmp_path / "run", values(folder))


def test_a_dataset_by_another_spelling_is_the_same(tmp_path: Path) -> None:
    small_dataset(tmp_path / "first")
    train(tmp_path / "run", settings(tmp_path / "first", cache=tmp_path / "cache", stop_at=4))
    small_dataset(tmp_path / "first", documents=30)
    spelt = load_config(None, [f"data.datasets=[{tmp_path}/x/../first]"]).data.datasets[0].path
    with pytest.raises(UsageError, match="the dataset was made again"):
        resume(tmp_path / "run", settings(spelt, cache=tmp_path / "cache"))


def test_a_checkpoint_that_was_touched_is_refused(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", values(folder, stop_at=4))
    path = tmp_path / "run" / "step-4" / "state" / "optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SchemaError, match=r"optimizer.safetensors is not what was committed.*remove"):
        resume(tmp_path / "run", values(folder))


def test_what_was_forgotten_since_is_a_new_segment(tmp_path: Path) -> None:
    small_dataset(tmp_path / "first")
    config = settings(tmp_path / "first", cache=tmp_path / "cache")
    train(tmp_path / "run", {**config, "stop_at": 4})
    forget(tmp_path / "first", [(read_manifest(tmp_path / "first").shards[1].name, 1)])
    resume(tmp_path / "run", config)
    state, _ = read_state(Files(tmp_path / "run"), 12)
    assert [len(set(segment.tombstones.values()) - {""}) for segment in state.plan.segments] == [0, 1]


def test_checkpoints_that_are_kept(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", values(folder, checkpoint={"every": 2, "keep": 2, "keep_every": 6}))
    assert committed_steps(Files(tmp_path / "run")) == [6, 10, 12]
    assert sorted(path.name for path in (tmp_path / "run").glob("step-*")) == ["step-10", "step-12", "step-6"]


# --- the loss, against plain code


def plain_loss(config: ModelConfig, rows: np.ndarray) -> float:
    """Mean over all targets of a batch, token by token, each document alone, in double precision."""
    decoder = Decoder(config)
    init_weights(decoder, 0)
    decoder.double()
    nats, n = 0.0, 0
    for row in rows:
        start = 0
        for p in range(len(row) - 1):
            if row[p] == EOS:
                start = p
            if row[p] >= 0 and row[p + 1] >= 0:
                logits = decoder(torch.tensor(row[start : p + 1])[None])[0, -1]
                nats -= float(logits.log_softmax(-1)[row[p + 1]].detach())
                n += 1
    return nats / n


def test_the_loss_is_that_of_plain_code(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", values(folder, stop_at=1))
    state, _ = read_state(Files(tmp_path / "run"), 1)
    opened = [TokenDataset.open(str(folder / name), cache=folder / "cache") for name in ("first", "second")]
    datasets = {dataset.fingerprint: dataset for dataset in opened}
    (rows,) = Loader(state.plan, datasets).read(0, 1)
    sizes = {key: value for key, value in SMALL["model"].items() if key != "preset"}
    config = ModelConfig(vocab_size=opened[0].vocab_size, tied=True, **sizes)
    assert log(tmp_path / "run")[0]["loss"] == pytest.approx(plain_loss(config, rows), abs=1e-5)


# --- more than one process


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_processes_learns_the_same(folder: Path, tmp_path: Path, world: int) -> None:
    # masks are uneven: a forgotten document, a padded window, and a batch of 5 that the processes do not divide
    train(tmp_path / "one", values(folder, eval={"every": 6}))
    torchrun(world, tmp_path / "many", values(folder, eval={"every": 6}))
    close(tmp_path / "one", tmp_path / "many", 1e-5)
    for one, other in zip(log(tmp_path / "one"), log(tmp_path / "many"), strict=True):
        if "eval" in one:
            assert one["eval"]["bits_per_byte"] == pytest.approx(other["eval"]["bits_per_byte"], abs=1e-4)


def test_processes_come_and_go_in_the_middle_of_an_epoch_of_a_mixture(folder: Path, tmp_path: Path) -> None:
    changed = values(folder)
    changed["data"]["datasets"][1]["weight"] = 5  # from step 8 on
    train(tmp_path / "one", values(folder, stop_at=8))
    resume(tmp_path / "one", changed)
    torchrun(2, tmp_path / "many", values(folder, stop_at=4))
    resume(tmp_path / "many", values(folder, stop_at=8))
    torchrun(2, tmp_path / "many", changed, "--resume")
    close(tmp_path / "one", tmp_path / "many", 1e-5)


MUON_TOLERANCE = 1e-3
"""Nats. Muon orthogonalises in bf16, so a last bit of a gradient becomes a thousandth of an update: measured are 6e-5
after 12 steps of these runs and 8e-4 after 60."""


def test_muon_on_two_processes_has_a_tolerance_of_its_own(folder: Path, tmp_path: Path) -> None:
    changed = {"optim": {"name": "muon"}}
    train(tmp_path / "one", values(folder, **changed))
    torchrun(2, tmp_path / "many", values(folder, **changed))
    for one, other in zip(log(tmp_path / "one"), log(tmp_path / "many"), strict=True):
        assert math.isclose(one["loss"], other["loss"], rel_tol=0, abs_tol=MUON_TOLERANCE)


@pytest.mark.slow
def test_processes_end_every_time(folder: Path, tmp_path: Path) -> None:
    # a DDP model that outlived its process group hung one run in some twenty
    for n in range(30):
        torchrun(2, tmp_path / f"run{n}", values(folder, stop_at=2))


# --- what else changes nothing


def test_a_bounded_cache_changes_nothing(folder: Path, tmp_path: Path) -> None:
    changed = {"data": {"order": "blocked"}}
    train(tmp_path / "flat", values(folder, **changed))
    bounded = {"data": {"order": "blocked", "cache": str(tmp_path / "cache"), "cache_bytes": 20_000}}
    train(tmp_path / "bounded", values(folder, **bounded))
    equal(tmp_path / "flat", tmp_path / "bounded")


# --- how a run ends


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_full_memory_says_which_knob_to_turn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Decoder, "forward", full)
    with pytest.raises(CorpusmillError, match="optim.micro_batch=2 instead of 5"):
        train(tmp_path / "run", values(folder))


def test_an_interrupted_run_ends_with_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    changed = {"optim": {"steps": 100_000}, "checkpoint": {"every": 100_000}, "eval": {"split": "train"}}
    config.write_text(json.dumps(values(folder, **changed)))
    command = [sys.executable, "-m", "corpusmill.train", "--config", str(config), "--out", str(tmp_path / "run")]
    child = subprocess.Popen([*command, "--quiet"], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "log.jsonl").exists() or len(log(tmp_path / "run")) < 3:
        assert child.poll() is None, child.stderr
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    (step,) = committed_steps(Files(tmp_path / "run"))
    assert said.strip().endswith(f"stopped after step {step}; the same command with --resume goes on")
    assert len(log(tmp_path / "run")) == step
    assert "eval" not in log(tmp_path / "run")[-1], "who stops a run does not wait for scores"
    outcome = resume(tmp_path / "run", values(folder, **changed, stop_at=step + 2))
    assert outcome.step == step + 2


def test_a_loss_that_is_not_a_number_ends_the_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusmillError, match=r"lower optim.lr.*--skip-steps"):
        train(tmp_path / "run", values(folder, optim={"name": "sgd", "lr": 1e30, "clip": 0, "warmup": 0}))


LEFT = ["log.jsonl", "settings.json", "step-4", "step-5", "tensorboard"]


@pytest.mark.parametrize("moment", ["publish", "published"])
def test_a_run_that_is_killed_while_it_saves_goes_on_to_the_same_end(folder: Path, tmp_path: Path, moment: str) -> None:
    train(tmp_path / "whole", values(folder))
    code = """
import os, sys, json
from corpusmill.schemas.files import set_hook
from corpusmill.train.config import TrainConfig
from corpusmill.train.start import start
import torch
torch.set_num_threads(1)
seen = 0
def hook(step, name):
    global seen
    if step == sys.argv[3] and name.startswith("step-8/"):
        seen += 1
        if seen == int(sys.argv[4]):
            os._exit(9)
set_hook(hook)
start(TrainConfig.model_validate(json.loads(sys.argv[1])), sys.argv[2], quiet=True)
"""
    for n in (1, 3):
        out = tmp_path / f"run{n}"
        arguments = [json.dumps(values(folder, checkpoint={"keep": 9})), str(out), moment, str(n)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 9
        assert committed_steps(Files(out)) == [4]
        resume(out, values(folder, stop_at=5))
        assert sorted(path.name for path in out.glob("*")) == LEFT, "what the killed process left is swept"
        resume(out, values(folder))
        equal(tmp_path / "whole", out)
