"""What a configuration stands for: the datasets opened and checked against one another, and the model's sizes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from corpusmill.schemas.errors import UsageError
from corpusmill.train.checkpoint import find_model
from corpusmill.train.config import TrainConfig, integer_weights
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource
from corpusmill.train.model.config import ModelConfig, preset
from corpusmill.train.model.folder import read_config

__all__ = ["Setup", "first_plan", "next_segment", "open_setup"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """A configuration with its datasets.

    Attributes:
        config: as given.
        datasets: by fingerprint, in the order of the configuration.
        weights: integers in the same order.
        model: sizes, the vocabulary included.
        sequence_length: tokens a sample.
    """

    config: TrainConfig
    datasets: Mapping[str, TokenDataset]
    weights: tuple[int, ...]
    model: ModelConfig
    sequence_length: int

    @property
    def first(self) -> TokenDataset:
        """The one that stands for the others where they agree: tokenizer, <eos>, padding."""
        return next(iter(self.datasets.values()))


def open_setup(
    config: TrainConfig, progress: Callable[[int, int], None] | None = None, *, model: str | None = None
) -> Setup:
    """Open what a configuration names.

    Args:
        config: checked by itself.
        progress: called with tokens decoded and tokens in all, while a cache is built.
        model: folder of the checkpoint to go on from, which has the sizes; None: the configuration has them.

    Raises:
        UsageError: no dataset, one named twice, datasets or a model of different tokenizers, nothing to train on.
        SchemaError: a dataset folder that is not what its manifest says.
    """
    if not config.data.datasets:
        raise UsageError("no dataset: give one or more with --data DIR/dataset[:WEIGHT]")
    datasets: dict[str, TokenDataset] = {}
    for choice in config.data.datasets:
        dataset = TokenDataset.open(
            choice.path,
            split=config.data.split,
            cache=None if config.data.cache is None else Path(config.data.cache),
            cache_bytes=config.data.cache_bytes,
            progress=progress,
        )
        if dataset.fingerprint in datasets:
            raise UsageError(
                f"--data {choice.path} is the dataset {datasets[dataset.fingerprint].location} again: name it once, "
                "with its whole weight"
            )
        if dataset.n_tokens == 0:
            raise UsageError(f"{dataset.location}: the split {config.data.split!r} has no tokens to train on")
        datasets[dataset.fingerprint] = dataset
    opened = list(datasets.values())
    first = opened[0]
    digests = [dataset.manifest.tokenizer.sha256 for dataset in opened]
    for dataset, digest in zip(opened, digests, strict=True):
        if digest != digests[0]:
            raise UsageError(
                f"{dataset.location} was made with another tokenizer than {first.location}: sha256 {digest}, "
                f"expected {digests[0]}; make one of them again with tokenizer.path set to the other's tokenizer.json"
            )
    sizes = _model(config, first) if model is None else read_config(model)
    length = config.data.sequence_length or sizes.max_length
    if length > sizes.max_length:
        raise UsageError(
            f"data.sequence_length is {length}, but the model's context is {sizes.max_length}: lower it, or set "
            f"model.max_length={length}"
        )
    weights = integer_weights(config.data.datasets, [dataset.n_tokens for dataset in opened])
    return Setup(config=config, datasets=datasets, weights=weights, model=sizes, sequence_length=length)


def _model(config: TrainConfig, dataset: TokenDataset) -> ModelConfig:
    if config.model.path is not None:
        model = read_config(find_model(config.model.path))
        if model.vocab_size < dataset.vocab_size:
            raise UsageError(
                f"model.path {config.model.path} has {model.vocab_size} tokens, but the tokenizer of "
                f"{dataset.location} has {dataset.vocab_size}: tokenize the dataset with the model's tokenizer.json"
            )
        return model
    sizes = preset(config.model.preset, dataset.vocab_size).model_dump() | config.model.changes
    try:
        return ModelConfig(**sizes)
    except ValueError as error:
        problems = "; ".join(str(p["msg"]).removeprefix("Value error, ") for p in error.errors())  # type: ignore[attr-defined]
        raise UsageError(f"model: {problems}") from error


def next_segment(setup: Setup, *, step: int, sample: int, skipped: tuple[tuple[int, int], ...] = ()) -> Segment:
    """The part of a data plan that a setup stands for, from a step and its first sample on."""
    return Segment(
        first_step=step,
        first_sample=sample,
        batch=setup.config.optim.batch,
        sequence_length=setup.sequence_length,
        sources=tuple(
            SegmentSource(fingerprint=name, n_windows=dataset.n_windows(setup.sequence_length), weight=weight)
            for (name, dataset), weight in zip(setup.datasets.items(), setup.weights, strict=True)
        ),
        order=setup.config.data.order,
        skipped=skipped,
        tombstones={name: dataset.tombstone_digest for name, dataset in setup.datasets.items()},
        seed=setup.config.seed,
    )


def first_plan(setup: Setup) -> DataPlan:
    """The data plan of a run that begins."""
    return DataPlan(segments=(next_segment(setup, step=0, sample=0),))
