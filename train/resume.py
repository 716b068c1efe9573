"""Going on with a run: which settings may change, and the data plan from there."""

from collections.abc import Iterator, Mapping
from typing import Any

from corpusmill.schemas.errors import UsageError
from corpusmill.train.checkpoint import State
from corpusmill.train.config import TrainConfig
from corpusmill.train.data.plan import DataPlan
from corpusmill.train.setup import Setup, next_segment

__all__ = ["changed_settings", "check_datasets", "continue_plan", "refuse_silent_changes"]

_FIXED = {
    "model": "the weights have the old sizes; begin a new run, from these weights with model.path if they fit",
    "seed": "the order of the data follows from it",
    "data.split": "the data plan counts the windows of the old split",
    "data.order": "windows would come again or never within an epoch",
    "data.document_mask": "the model would see other contexts from here on",
    "optim.name": "the optimizer's state is of the old kind",
}
"""Settings by path that a run keeps, and why; what lies below a path is covered by it."""


def _flatten(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def changed_settings(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Old and new value by the path of each setting that differs."""
    before = dict(_flatten(old.model_dump(mode="json")))
    return {
        path: (before.get(path), value)
        for path, value in _flatten(new.model_dump(mode="json"))
        if before.get(path) != value
    }


def refuse_silent_changes(changes: Mapping[str, tuple[Any, Any]], state: State, precision: str) -> None:
    """Refuse what would make the rest of the run another run than its log and its settings say.

    Args:
        changes: as `changed_settings` gives them.
        state: of the checkpoint.
        precision: that the hardware here gives, fp32 or bf16.

    Raises:
        UsageError: naming the setting, both values, the reason and the way out.
    """
    for path, (old, new) in changes.items():
        fixed = next((name for name in _FIXED if path == name or path.startswith(f"{name}.")), None)
        if fixed is not None:
            raise UsageError(
                f"--resume: {path} is {new}, but the run has {old}: {_FIXED[fixed]}. Leave it as it was, or begin a "
                "new run in another --out"
            )
    if precision != state.precision:
        raise UsageError(
            f"--resume: precision is {precision} here, but the run is in {state.precision}: its steps would be "
            f"computed otherwise; set precision={state.precision}, on a machine that has it"
        )


def check_datasets(state: State, setup: Setup) -> None:
    """Refuse a folder whose content is another than when the run read it.

    Raises:
        UsageError: naming the folder and both fingerprints.
    """
    before = {dataset.path: dataset.fingerprint for dataset in state.datasets}
    for fingerprint, dataset in setup.datasets.items():
        if before.get(dataset.location, fingerprint) != fingerprint:
            raise UsageError(
                f"--resume: {dataset.location} has the fingerprint {fingerprint}, but the run was trained on "
                f"{before[dataset.location]}: the dataset was made again. Bring the old one back, or begin a new run "
                "in another --out"
            )
    tokenizer = setup.first.manifest.tokenizer.sha256
    if tokenizer != state.tokenizer_sha256:
        raise UsageError(
            f"--resume: the datasets have the tokenizer {tokenizer}, but the run has {state.tokenizer_sha256}: its "
            "embeddings belong to the other one"
        )


def continue_plan(plan: DataPlan, setup: Setup, *, step: int, skip_steps: int = 0) -> DataPlan:
    """The plan of a run that goes on at `step`: the same, or with one more segment where something has changed.

    Args:
        plan: of the checkpoint.
        setup: what is asked for now.
        step: the next one.
        skip_steps: how many steps' samples to pass over first.
    """
    last = plan.segments[-1]
    sample = plan.samples_of(step).start
    skipped = ((sample, sample + skip_steps * last.batch),) if skip_steps else ()
    segment = next_segment(setup, step=step, sample=sample + skip_steps * last.batch, skipped=skipped)
    same = segment.model_copy(update={"first_step": last.first_step, "first_sample": last.first_sample})
    if not skipped and same.model_copy(update={"skipped": last.skipped}) == last:
        return plan
    return plan.append(segment)
