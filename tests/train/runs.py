"""Whole training runs for the tests: small, in this process or under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from corpusmill.schemas.files import Files
from corpusmill.train.checkpoint import committed_steps
from corpusmill.train.config import TrainConfig
from corpusmill.train.run import Outcome
from corpusmill.train.start import last_checkpoint, start

__all__ = ["SMALL", "log", "resume", "tensors", "torchrun", "train"]

SMALL: dict[str, Any] = {
    "model": {
        "preset": "nano",
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 1,
        "ffn_dim": 48,
        "max_length": 32,
    },
    "optim": {"name": "adamw", "steps": 12, "batch": 5, "lr": 1e-2, "warmup": 2},
    "checkpoint": {"every": 4, "keep": 2},
    "device": "cpu",
    "precision": "fp32",
}
"""Settings of a run of a second: 12 steps of 5 sequences, which neither 2 nor 3 processes divide."""


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with some changed, section by section."""
    out = dict(settings)
    for key, value in changes.items():
        out[key] = merged(out.get(key, {}), value) if isinstance(value, dict) else value
    return out


def settings(*data: str | Path, cache: Path, **changes: Any) -> dict[str, Any]:
    """`SMALL` on some datasets."""
    return merged(merged(SMALL, {"data": {"datasets": [str(path) for path in data], "cache": str(cache)}}), changes)


def train(out: Path, values: dict[str, Any]) -> Outcome:
    """Begin a run in this process."""
    return start(TrainConfig.model_validate(values), str(out), quiet=True)


def resume(out: Path, values: dict[str, Any], *, skip_steps: int = 0) -> Outcome:
    """Go on with a run in this process."""
    config = TrainConfig.model_validate(values)
    return start(config, str(out), saved=last_checkpoint(str(out)), skip_steps=skip_steps, quiet=True)


def torchrun(world: int, out: Path, values: dict[str, Any], *arguments: str) -> None:
    """Begin or go on with a run in processes of its own, as a user would."""
    config = out.with_suffix(".yaml")
    config.write_text(json.dumps(values))  # JSON is YAML
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    command += ["-m", "corpusmill.train", "--config", str(config), "--out", str(out), "--quiet", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr


def log(out: Path) -> list[dict[str, Any]]:
    """The records of a run without what the clock says."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key in ("step", "loss", "lr", "grad_norm", "tokens", "eval")}
        for line in lines
    ]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of the newest checkpoint."""
    folder = out / f"step-{committed_steps(Files(out))[-1]}"
    weights = safetensors.torch.load_file(folder / "model" / "model.safetensors")
    return weights | safetensors.torch.load_file(folder / "state" / "optimizer.safetensors")
