"""Checkpoints of a run: `step-N/` holds `model/`, which everything but training reads, and `state/`, to go on from.

`step-N/commit.json` is published last and lists the sha256 of every file: a folder without it is not there. All
tensors are safetensors, so that no checkpoint can run code.
"""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from corpusmill.schemas.errors import SchemaError, UsageError
from corpusmill.schemas.files import FileInfo, Files
from corpusmill.train.config import TrainConfig
from corpusmill.train.data.plan import DataPlan
from corpusmill.train.model.folder import write_tensors

__all__ = [
    "DatasetUse",
    "State",
    "card_name",
    "committed_steps",
    "current_libraries",
    "discard",
    "find_config",
    "find_model",
    "model_folder",
    "prune",
    "read_state",
    "save",
    "sweep",
]

VERSION = "1.0"

_LIBRARIES = ("corpusmill", "numpy", "safetensors", "tokenizers", "torch")
_STEP = re.compile(r"step-(\d+)/commit\.json")
_FOLDER = re.compile(r"step-(\d+)/")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetUse(_Model):
    """A dataset as the run knew it.

    Attributes:
        path: where it lay.
        fingerprint: of the dataset.
        name: of its recipe.
        split: that was read.
        languages: tokens of the split by language.
        sources: the same by source.
    """

    path: str
    fingerprint: str
    name: str
    split: str
    languages: dict[str, int]
    sources: dict[str, int]


class State(_Model):
    """All that a run is, beside its weights and its optimizer's tensors.

    Attributes:
        version: of this model, major.minor; another major version is refused.
        step: steps that are done; the next one has this number.
        plan: of the data, up to here and from here on.
        config: in force.
        precision: fp32 or bf16, as it was computed.
        datasets: all that the run has read, in the order of their first use.
        tokenizer_sha256: of all of them.
        n_tokens: targets that the model has learned from.
        libraries: version by name, for the reader.
    """

    version: str = VERSION
    step: int
    plan: DataPlan
    config: TrainConfig
    precision: str
    datasets: tuple[DatasetUse, ...]
    tokenizer_sha256: str
    n_tokens: int
    libraries: dict[str, str]


def current_libraries() -> dict[str, str]:
    """Version by name of what shapes the bits of a run."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def model_folder(step: int) -> str:
    """Name of the model folder of a checkpoint, below the run folder."""
    return f"step-{step}/model"


def card_name(step: int) -> str:
    """Name of a checkpoint's model card."""
    return f"{model_folder(step)}/README.md"


def _commit_name(step: int) -> str:
    return f"step-{step}/commit.json"


def committed_steps(run: Files) -> list[int]:
    """Steps of the checkpoints that are whole, ascending."""
    return sorted(int(match[1]) for name in run.list("") if (match := _STEP.fullmatch(name)))


def save(run: Files, state: State, model: Sequence[FileInfo], optimizer: dict[str, Tensor]) -> None:
    """Commit a checkpoint whose model folder is written.

    Args:
        run: the run folder.
        state: with the step.
        model: the files of `model_folder(state.step)`.
        optimizer: `Optimizers.state_tensors`.
    """
    folder = f"step-{state.step}/state"
    files = [
        *model,
        write_tensors(run, f"{folder}/optimizer.safetensors", optimizer),
        run.write_bytes(f"{folder}/state.json", state.model_dump_json(indent=1).encode()),
    ]
    lasting = [info for info in files if info.name != card_name(state.step)]  # the card gets its scores later
    listed = {info.name.removeprefix(f"step-{state.step}/"): info.sha256 for info in lasting}
    run.write_bytes(_commit_name(state.step), json.dumps({"files": listed}, indent=1).encode())


def discard(run: Files, step: int) -> None:
    """Remove a checkpoint, or what is there of one; its commit record goes first."""
    run.delete(_commit_name(step))
    for name in run.list(f"step-{step}"):
        run.delete(name)
    if run.is_local:
        for folder in ("model", "state", "."):
            path = Path(run.path(f"step-{step}/{folder}"))
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def prune(run: Files, *, keep: int, keep_every: int | None) -> None:
    """Remove all but the newest `keep` checkpoints and those at multiples of `keep_every`."""
    for step in committed_steps(run)[:-keep]:
        if keep_every is None or step % keep_every:
            discard(run, step)


def sweep(run: Files) -> None:
    """Remove what killed processes left behind: temporary files, and checkpoints that were never committed."""
    run.sweep()
    begun = {int(match[1]) for name in run.list("") if (match := _FOLDER.match(name))}
    for step in begun - set(committed_steps(run)):
        discard(run, step)


def read_state(run: Files, step: int) -> tuple[State, dict[str, Tensor]]:
    """What a run goes on from.

    Every file of the checkpoint, weights included, must have the digest that its commit record lists.

    Raises:
        SchemaError: a file was changed or is missing, or the state has another major version.
    """
    try:
        listed: dict[str, str] = json.loads(run.read_bytes(_commit_name(step)))["files"]
        _ = listed["state/state.json"], listed["state/optimizer.safetensors"]
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(
            f"{run.url(_commit_name(step))} is no commit record: {error!r}; remove {run.url(f'step-{step}')} to go on "
            "from the checkpoint before it"
        ) from error
    content: dict[str, bytes] = {}
    for name, expected in listed.items():
        try:
            if name.startswith("state/"):
                content[name] = run.read_bytes(f"step-{step}/{name}")
                found = hashlib.sha256(content[name]).hexdigest()
            else:  # the weights are read by `read_model`; here their bytes need not be in memory
                found = run.sha256(f"step-{step}/{name}")
        except FileNotFoundError:
            found = "no file"
        if found != expected:
            raise SchemaError(
                f"{run.url(f'step-{step}/{name}')} is not what was committed: sha256 {found}, expected {expected}; "
                f"remove {run.url(f'step-{step}')} to go on from the checkpoint before it"
            )
    values: dict[str, Any] = json.loads(content["state/state.json"])
    if str(values.get("version")).split(".")[0] != VERSION.split(".")[0]:
        raise SchemaError(
            f"{run.url(f'step-{step}')} is a checkpoint of version {values.get('version')}, but version {VERSION} is "
            "read here"
        )
    return State.model_validate(values), safetensors.torch.load(content["state/optimizer.safetensors"])


def find_model(location: str) -> str:
    """The model folder that a user means: of a run (its newest checkpoint), of one checkpoint, or itself.

    Raises:
        UsageError: there is none at that place.
    """
    files = Files(location)
    if files.exists("config.json"):
        return location
    if files.exists("commit.json"):
        return files.url("model")
    steps = committed_steps(files)
    if steps:
        return files.url(model_folder(steps[-1]))
    raise UsageError(
        f"there is no model at {location}: give a run folder with a checkpoint, one of its step-N folders, or a model "
        "folder with config.json and model.safetensors"
    )


def find_config(location: str) -> TrainConfig | None:
    """The configuration of the checkpoint that a user means (as `find_model`); None for a model folder alone."""
    files = Files(location)
    steps = committed_steps(files)
    data = files.read_or_none(f"step-{steps[-1]}/state/state.json" if steps else "state/state.json")
    return None if data is None else TrainConfig.model_validate(json.loads(data)["config"])
