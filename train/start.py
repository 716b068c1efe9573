"""From a configuration to a run: devices, datasets, weights and data plan, new or from the last checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from corpusmill.schemas import lease, tokens
from corpusmill.schemas.console import say
from corpusmill.schemas.errors import LeaseError, UsageError
from corpusmill.schemas.files import Files
from corpusmill.train.checkpoint import (
    State,
    committed_steps,
    current_libraries,
    find_model,
    model_folder,
    read_state,
    sweep,
)
from corpusmill.train.config import TrainConfig
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.distributed import Processes, processes
from corpusmill.train.hardware import (
    Precision,
    describe_device,
    explained_out_of_memory,
    peak_flops,
    pick_device,
    pick_precision,
    set_threads,
)
from corpusmill.train.model.decoder import Decoder, init_weights
from corpusmill.train.model.folder import read_model
from corpusmill.train.monitor import Monitor
from corpusmill.train.resume import changed_settings, check_datasets, continue_plan, refuse_silent_changes
from corpusmill.train.run import Outcome, Run
from corpusmill.train.setup import Setup, first_plan, open_setup
from corpusmill.train.trainer import Trainer

__all__ = ["Saved", "last_checkpoint", "open_held_out", "start"]

Saved = tuple[State, dict[str, Tensor]]
"""A checkpoint: its state, and the optimizer's tensors."""


def last_checkpoint(out: str) -> Saved | None:
    """The newest checkpoint of a run folder, None where there is none.

    Raises:
        SchemaError: it is not what was committed.
    """
    files = Files(out)
    steps = committed_steps(files)
    return read_state(files, steps[-1]) if steps else None


def start(
    config: TrainConfig, out: str, *, saved: Saved | None = None, skip_steps: int = 0, quiet: bool = False
) -> Outcome:
    """Train, on this process and those that torchrun started beside it.

    Args:
        config: what to do.
        out: the run folder, local.
        saved: the checkpoint to go on from.
        skip_steps: how many steps' samples to pass over when going on.
        quiet: say nothing on the way.

    Raises:
        UsageError: something does not fit; nothing was changed.
        LeaseError: another run holds the folder.
    """
    if saved is not None and saved[0].step >= config.last_step:
        say.print(
            f"{out} is at step {saved[0].step} already: nothing is left to do; to go on, set stop_at or optim.steps to "
            "a later one"
        )
        return Outcome(step=saved[0].step, signal=0, evaluation=None)
    set_threads(config.threads)
    device = pick_device(config.device)
    precision = pick_precision(config.precision, device)
    files = Files(out)
    with processes(device) as group, _held(files, group):
        if committed_steps(files)[-1:] != ([] if saved is None else [saved[0].step]):
            raise UsageError(f"{out} has another checkpoint by now, of a run that ended meanwhile: type that again")
        with _decoding(shown=group.is_main and not quiet) as progress:
            model = None if saved is None else files.url(model_folder(saved[0].step))
            setup = open_setup(config, progress, model=model)
        with explained_out_of_memory(config.optim.rows_at_once(group.world), setup.sequence_length):
            return _train(setup, group, precision, files, saved, skip_steps, quiet)


@contextmanager
def _held(files: Files, group: Processes) -> Iterator[None]:
    """Hold the run folder for the block; all processes fail together if it is not to be had."""
    was_there = files.exists("")
    try:
        with ExitStack() as stack:
            refusal = ""
            if group.is_main:
                try:
                    stack.enter_context(lease.hold(files, say.print))
                    stack.callback(files.sweep)
                except LeaseError as error:
                    refusal = str(error)
            refusal = group.gather(refusal)[0]
            if refusal:
                raise LeaseError(refusal)
            yield
    finally:
        if group.is_main and not was_there:
            with suppress(OSError):  # something is in it
                Path(files.root).rmdir()


@contextmanager
def _decoding(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for the tokens of datasets that are decoded for the first time."""
    columns = (TextColumn("decoding"), BarColumn(), TextColumn("{task.completed:,.0f} tokens"), TimeRemainingColumn())
    with Progress(*columns, console=say, transient=True, disable=not (shown and say.is_terminal)) as bar:
        line = bar.add_task("", visible=False)
        yield lambda done, total: bar.update(line, completed=done, total=total, visible=True)


def _train(
    setup: Setup,
    group: Processes,
    precision: Precision,
    files: Files,
    saved: Saved | None,
    skip_steps: int,
    quiet: bool,
) -> Outcome:
    config = setup.config
    if saved is None:
        trainer = _begin(setup, group, precision)
    else:
        trainer = _go_on(setup, group, precision, files, saved, skip_steps)
    held_out = open_held_out(setup)
    with Monitor(
        files.root,
        steps=config.optim.steps,
        done=trainer.step,
        flops_per_token=setup.model.flops_per_token(setup.sequence_length),
        peak_flops=peak_flops(group.device, precision) * group.world,
        is_main=group.is_main,
        quiet=quiet,
    ) as monitor:
        for line in _introduction(trainer, saved):
            monitor.say(line)
        if not held_out:
            monitor.say(f"no dataset has the split {config.eval.split!r}: nothing will be scored")
        if group.is_main:
            sweep(files)
            files.write_bytes("settings.json", config.model_dump_json(indent=1).encode())
        return Run(trainer, files, monitor, held_out).train()


def _begin(setup: Setup, group: Processes, precision: Precision) -> Trainer:
    if setup.config.model.path is None:
        decoder = Decoder(setup.model)
        init_weights(decoder, setup.config.seed)
    else:
        decoder = _imported(setup)
    return Trainer(setup, first_plan(setup), decoder, group, precision=precision)


def _imported(setup: Setup) -> Decoder:
    """The weights of a folder; its tokens must be the datasets', for other ids would mean other words."""
    model = read_model(find_model(str(setup.config.model.path)))
    theirs = tokens.from_json(model.tokenizer_json).get_vocab()
    ours = setup.first.tokenizer.get_vocab()
    different = sorted(ours.items() - theirs.items(), key=lambda item: item[1])
    if different:
        token, number = different[0]
        raise UsageError(
            f"model.path {setup.config.model.path} has another tokenizer than the dataset: {token!r} is "
            f"{theirs.get(token, 'not in it')}, expected {number}; make the dataset with tokenizer.path set to the "
            "model's tokenizer.json"
        )
    return model.decoder


def _go_on(
    setup: Setup, group: Processes, precision: Precision, files: Files, saved: Saved, skip_steps: int
) -> Trainer:
    state, optimizer = saved
    refuse_silent_changes(changed_settings(state.config, setup.config), state, precision)
    check_datasets(state, setup)
    decoder = read_model(files.url(model_folder(state.step))).decoder
    plan = continue_plan(state.plan, setup, step=state.step, skip_steps=skip_steps)
    trainer = Trainer(setup, plan, decoder, group, precision=precision)
    trainer.restore(state, optimizer)
    return trainer


def open_held_out(setup: Setup) -> list[TokenDataset]:
    """The datasets at the split that is scored, those that have it."""
    data, split = setup.config.data, setup.config.eval.split
    return [
        TokenDataset.open(dataset.location, split=split, cache=data.cache, decode=False)
        for dataset in setup.datasets.values()
        if split in dataset.manifest.splits
    ]


def _introduction(trainer: Trainer, saved: Saved | None) -> list[str]:
    """What a person wants to see before the first step."""
    setup, group = trainer.setup, trainer.processes
    optim, model = setup.config.optim, setup.model
    devices = f"{group.world} x " if group.world > 1 else ""
    length = setup.sequence_length
    lines = [
        f"{model.n_parameters:,} parameters, {trainer.precision} on {devices}{describe_device(group.device)}",
        *(
            f"{dataset.location}: {dataset.n_tokens:,} tokens in {dataset.n_windows(length):,} windows of {length}, "
            f"weight {weight}"
            for dataset, weight in zip(setup.datasets.values(), setup.weights, strict=True)
        ),
        f"{optim.steps:,} steps of {optim.batch} x {length} tokens, {optim.name}, learning rate "
        f"{trainer.schedule.lr:g} by {trainer.schedule.name}",
    ]
    if saved is not None:
        lines.append(f"goes on after step {trainer.step:,}")
        changes = changed_settings(saved[0].config, setup.config)
        lines += [f"changed: {path} from {old} to {new}" for path, (old, new) in changes.items()]
        if len(trainer.plan.segments) > len(saved[0].plan.segments):
            lines.append(f"the data plan has a new segment from step {trainer.step:,} on")
        versions = current_libraries()
        lines += [
            f"changed: {name} {old} to {versions[name]}; the last bits may differ"
            for name, old in saved[0].libraries.items()
            if versions[name] != old
        ]
    return lines
