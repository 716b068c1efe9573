"""The configuration of a training run: one YAML file or none, checked whole before any work starts."""

import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from corpusmill.schemas.config_file import ConfigKind, nearest
from corpusmill.schemas.errors import UsageError
from corpusmill.train.model.config import PRESETS

__all__ = [
    "Checkpoints",
    "Data",
    "DatasetChoice",
    "Evaluation",
    "ModelChoice",
    "Optim",
    "TrainConfig",
    "integer_weights",
    "load_config",
]


_WEIGHT = r"[0-9]+(\.[0-9]+)?"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelChoice(_Model):
    """What is trained: a preset with some sizes changed, or a folder that exists.

    Attributes:
        preset: a name of `PRESETS`.
        path: a Llama-class model folder, or a run, to go on from with a new optimizer; its tokenizer must be the
            dataset's.
        dim: width of the residual stream, instead of the preset's.
        n_layers: blocks.
        n_heads: query heads.
        n_kv_heads: key and value heads.
        ffn_dim: width inside the feed-forward network.
        max_length: longest context, tokens.
        tied: whether the output matrix is the embedding.
        rope_theta: base of the rotary positions.
    """

    preset: str = "small"
    path: str | None = None
    dim: Annotated[int, Field(gt=0)] | None = None
    n_layers: Annotated[int, Field(gt=0)] | None = None
    n_heads: Annotated[int, Field(gt=0)] | None = None
    n_kv_heads: Annotated[int, Field(gt=0)] | None = None
    ffn_dim: Annotated[int, Field(gt=0)] | None = None
    max_length: Annotated[int, Field(gt=0)] | None = None
    tied: bool | None = None
    rope_theta: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_could_not_be_changed(cls, value: Any) -> Any:
        if isinstance(value, str):  # `--set model.dim=64` could not add to it
            raise ValueError(f"write model.preset={value}, or model: {{preset: {value}}} in a file")
        return value

    @field_validator("preset")
    @classmethod
    def _preset_exists(cls, value: str) -> str:
        if value not in PRESETS:
            raise ValueError(f"there is no such preset; {nearest(value, list(PRESETS))}")
        return value

    @model_validator(mode="after")
    def _a_folder_has_its_sizes(self) -> "ModelChoice":
        if self.path is not None and self.changes:
            raise ValueError(f"path brings its own sizes: remove {', '.join(self.changes)}")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """Sizes that differ from the preset."""
        return self.model_dump(exclude={"preset", "path"}, exclude_none=True)


class DatasetChoice(_Model):
    """A dataset folder and its share in the mixture.

    Attributes:
        path: local path or fsspec URL of a dataset folder.
        weight: share of the samples, relative to the others; None: its number of tokens.
    """

    path: Annotated[str, Field(min_length=1)]
    weight: Annotated[str | None, Field(pattern=rf"^{_WEIGHT}$")] = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """`DIR` and `DIR:WEIGHT`, as --data takes them."""
        if isinstance(value, Mapping) and isinstance(value.get("weight"), int | float):
            return {**value, "weight": str(value["weight"])}
        if not isinstance(value, str):
            return value
        path, colon, weight = value.rpartition(":")
        is_port = re.fullmatch(r"https?://[^/:]*", path)
        if not colon or is_port or not re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", weight):
            return {"path": value}
        if not re.fullmatch(_WEIGHT, weight):
            raise ValueError(f"the weight {weight} is no share: write it as 3 or 0.5")
        return {"path": path, "weight": weight}


class Data(_Model):
    """What is read and in which order.

    Attributes:
        datasets: the mixture.
        split: which split is trained on.
        sequence_length: tokens a sample; None: the model's longest context.
        order: global: every window anywhere in the epoch; blocked: row groups in random order, windows in random
            order within each, for datasets that are read over a network.
        document_mask: whether tokens see only their own document.
        cache: folder for decoded tokens; None: CORPUSMILL_CACHE, else ~/.cache/corpusmill/tokens.
        cache_bytes: limit for decoded row groups that are kept, of all datasets; None: local datasets are decoded
            whole, and remote ones have 8 GiB.
    """

    datasets: list[DatasetChoice] = []
    split: Literal["train", "validation", "test"] = "train"
    sequence_length: Annotated[int, Field(gt=0)] | None = None
    order: Literal["global", "blocked"] = "global"
    document_mask: bool = True
    cache: str | None = None
    cache_bytes: Annotated[int, Field(gt=0)] | None = None


class Optim(_Model):
    """How the weights change.

    Attributes:
        name: muon (matrices inside the layers; AdamW for the rest), adamw, or sgd with momentum.
        lr: peak learning rate; None: 6e-3 for muon, 3e-3 for adamw, .1 for sgd: right for models of some
            million parameters, to be lowered for larger ones.
        steps: optimizer steps in all.
        batch: sequences a step, over all devices.
        micro_batch: sequences a device holds at once; None: its whole share. Changes memory and speed, not results.
        schedule: wsd (warm up, stay, decay; Hu et al. 2024) or cosine.
        warmup: steps of linear warm-up; None: 2 % of all, at most 1,000.
        decay: share of the steps in which wsd decays.
        decay_shape: sqrt (1 - sqrt of the progress; Hägele et al. 2024) or linear.
        min_lr: learning rate at the end, as a share of the peak.
        weight_decay: decoupled, on matrices only.
        betas: AdamW's decays of the mean and of the square.
        eps: AdamW's.
        momentum: of muon and sgd; None: .95 and .9.
        clip: largest norm of the gradient; 0: none.
    """

    name: Literal["muon", "adamw", "sgd"] = "muon"
    lr: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(gt=0)] = 1000
    batch: Annotated[int, Field(gt=0)] = 32
    micro_batch: Annotated[int, Field(gt=0)] | None = None
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup: Annotated[int, Field(ge=0)] | None = None
    decay: Annotated[float, Field(ge=0, le=1)] = 0.2
    decay_shape: Literal["sqrt", "linear"] = "sqrt"
    min_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    clip: Annotated[float, Field(ge=0)] = 1.0

    def rows_at_once(self, world: int) -> int:
        """Sequences that each of `world` processes holds at once."""
        share = -(-self.batch // world)
        return min(self.micro_batch or share, share)


class Checkpoints(_Model):
    """When the state is kept. The last step always is.

    Attributes:
        every: steps between two.
        keep: how many of the newest stay.
        keep_every: those at multiples of this many steps stay for ever; None: none do.
    """

    every: Annotated[int, Field(gt=0)] = 500
    keep: Annotated[int, Field(gt=0)] = 2
    keep_every: Annotated[int, Field(gt=0)] | None = None


class Evaluation(_Model):
    """What is measured along the way, and after the last step.

    Attributes:
        every: steps between two; None: at the end only.
        split: which split is scored; a dataset without it is not.
        max_documents: how many documents of each dataset are scored along the way, the first ones; None: all.
        prompts: continued at each evaluation.
        max_new_tokens: of each continuation.
        temperature: of sampling.
        top_p: of sampling.
    """

    every: Annotated[int, Field(gt=0)] | None = None
    split: Literal["train", "validation", "test"] = "validation"
    max_documents: Annotated[int, Field(gt=0)] | None = None
    prompts: list[str] = []
    max_new_tokens: Annotated[int, Field(gt=0)] = 64
    temperature: Annotated[float, Field(ge=0)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95


class TrainConfig(_Model):
    """A whole training run; every field but `data.datasets` has a default.

    Attributes:
        model: a preset, sizes, or a folder.
        data: datasets and order.
        optim: optimizer and schedule.
        checkpoint: what is kept.
        eval: what is measured.
        seed: of the weights and of the order.
        stop_at: step after which the run stops cleanly, to be resumed; None: the last.
        device: auto takes CUDA, then MPS, then the CPU.
        precision: auto takes bf16 autocast where the hardware has it.
        compile: torch.compile; auto: on CUDA only.
        threads: CPU threads; None: torch's choice.
    """

    model: ModelChoice = ModelChoice()
    data: Data = Data()
    optim: Optim = Optim()
    checkpoint: Checkpoints = Checkpoints()
    eval: Evaluation = Evaluation()
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    stop_at: Annotated[int, Field(gt=0)] | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    threads: Annotated[int, Field(gt=0)] | None = None

    @property
    def last_step(self) -> int:
        """Where this call of the run ends: at `stop_at`, if that comes before the end."""
        return min(self.stop_at or self.optim.steps, self.optim.steps)

    @field_validator("compile", mode="before")
    @classmethod
    def _yaml_on(cls, value: Any) -> Any:
        """YAML 1.1 reads `on` and `off` as booleans."""
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def integer_weights(datasets: Sequence[DatasetChoice], n_tokens: Sequence[int]) -> tuple[int, ...]:
    """The smallest integers in the ratio of the datasets' weights, without rounding.

    Raises:
        UsageError: some have a weight and some have none, or all are 0.
    """
    given = [choice.weight for choice in datasets]
    if all(weight is None for weight in given):
        exact = [Fraction(n) for n in n_tokens]
    elif any(weight is None for weight in given):
        without = next(choice.path for choice in datasets if choice.weight is None)
        raise UsageError(f"--data {without} has no weight, but others have: write {without}:WEIGHT, or none at all")
    else:
        exact = [Fraction(weight) for weight in given if weight is not None]
    if not any(exact):
        raise UsageError("the weights of all datasets are 0: give one of them a share")
    scale = lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    return tuple(weight // gcd(*whole) for weight in whole)


def load_config(
    path: str | Path | None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Read, merge and check a training configuration (see `ConfigKind.load`).

    Args:
        path: the YAML file, or None.
        overrides: `key.path=value` as given to --set; values are YAML.
        base: fields that both change, such as those of the run that is resumed.

    Raises:
        UsageError: naming the field, its value, what is wrong and what to write.
    """
    return _CONFIG.load(path, overrides, base)


def _anchor(data: dict[str, Any], folder: Path) -> None:
    """Make relative paths absolute, so that they mean the same wherever the run is resumed from."""

    def absolute(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return value.rstrip("/") if "://" in value else os.path.normpath(folder / Path(value).expanduser())

    def field(section: Any, name: str) -> None:
        if isinstance(section, dict) and section.get(name) is not None:
            section[name] = absolute(section[name])

    data_section = data.get("data")
    field(data_section, "cache")
    field(data.get("model"), "path")
    datasets = data_section.get("datasets") if isinstance(data_section, dict) else None
    if isinstance(datasets, list):
        for choice in datasets:
            field(choice, "path")
        datasets[:] = [absolute(choice) for choice in datasets]


_CONFIG = ConfigKind(
    model=TrainConfig,
    noun="training configuration",
    error=UsageError,
    ready="ready ones are in the folder recipes/train/",
    example="optim.steps=2000",
    exclusive={
        ("model", "path"): "preset",
        ("model", "preset"): "path",
    },
    anchor=_anchor,
)
