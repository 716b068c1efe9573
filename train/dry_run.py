"""`corpusmill train --dry-run`: what a run would be, before it is begun."""

import time
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from corpusmill.schemas.console import human_bytes
from corpusmill.train.config import TrainConfig
from corpusmill.train.distributed import Processes, processes
from corpusmill.train.hardware import (
    Precision,
    describe_device,
    explained_out_of_memory,
    free_bytes,
    peak_flops,
    pick_device,
    pick_precision,
    set_threads,
)
from corpusmill.train.model.config import PRESETS, ModelConfig, TrainingBytes, preset
from corpusmill.train.model.decoder import Decoder, init_weights
from corpusmill.train.setup import Setup, first_plan, open_setup
from corpusmill.train.trainer import Trainer

__all__ = ["dry_run"]

_TIMED_STEPS = 5


def dry_run(config: TrainConfig, console: Console) -> None:
    """Print the models one could train, and what this run would read and take.

    The time left is that of five steps, timed after a first one that warms up; their weights are thrown away.

    Args:
        config: of the run.
        console: where to.

    Raises:
        UsageError, SchemaError, CorpusmillError: what the run itself would fail with at its beginning.
    """
    set_threads(config.threads)
    device = pick_device(config.device)
    precision = pick_precision(config.precision, device)
    with processes(device) as group:
        if not group.is_main:
            console = Console(quiet=True)
        setup = open_setup(config)
        n_rows = config.optim.rows_at_once(group.world)
        console.print(_models(setup, precision, n_rows))
        console.print()
        console.print(_data(setup))
        console.print()
        needed, free = _memory(setup.model, setup, setup.sequence_length, precision, n_rows).total, free_bytes(device)
        if group.sum(free is not None and needed > free)[0]:  # one that does not fit is enough: all end
            console.print(
                f"no steps were timed: this run needs about {human_bytes(needed)} a device, and "
                f"{describe_device(device)} has {human_bytes(free or 0)} free. Lower optim.micro_batch (now {n_rows}), "
                "or take a smaller model.preset"
            )
            return
        with explained_out_of_memory(n_rows, setup.sequence_length):
            seconds = _seconds_a_step(setup, group, precision)
        peak = peak_flops(device, precision) * group.world
        console.print(_speed(setup, seconds, peak))
    if device.type == "cuda":
        console.print(f"peak memory {human_bytes(torch.cuda.max_memory_allocated(device))}")
    console.print(f"{precision} on {describe_device(device)}")


def _speed(setup: Setup, seconds: float, peak: float) -> str:
    optim, length = setup.config.optim, setup.sequence_length
    tokens = optim.batch * length
    mfu = setup.model.flops_per_token(length) * tokens / seconds / peak
    return (
        f"{optim.steps:,} steps of {optim.batch} x {length} = {tokens:,} tokens, in all {optim.steps * tokens:,}, "
        f"{optim.steps * tokens / setup.model.n_parameters:.1f} a parameter\n{seconds:.3f} s a step, "
        f"{tokens / seconds:,.0f} tokens/s, {mfu:.1%} of peak; the run takes {_duration(optim.steps * seconds)}"
    )


def _memory(model: ModelConfig, setup: Setup, length: int, precision: Precision, n_rows: int) -> TrainingBytes:
    value_bytes = 2 if precision == "bf16" else 4
    return model.training_bytes(n_rows, length, setup.config.optim.name, value_bytes=value_bytes)


def _models(setup: Setup, precision: Precision, n_rows: int) -> Table:
    """All presets with this vocabulary, and the model at hand."""
    table = Table("model", "parameters", "layers", "width", "heads", "context", "weights", box=None)
    for name in ("gradients", "optimizer", "activations", "memory in all"):
        table.add_column(name)
    for column in table.columns[1:]:
        column.justify = "right"
    models = {name: preset(name, setup.model.vocab_size) for name in PRESETS} | {"this run": setup.model}
    for name, model in models.items():
        length = setup.sequence_length if name == "this run" else model.max_length
        memory = _memory(model, setup, length, precision, n_rows)
        if name == "this run":
            table.add_section()
        table.add_row(
            name,
            f"{model.n_parameters:,}",
            str(model.n_layers),
            str(model.dim),
            f"{model.n_heads}/{model.n_kv_heads}",
            f"{length:,}",
            *(human_bytes(part) for part in (memory.weights, memory.gradients, memory.optimizer, memory.activations)),
            human_bytes(memory.total),
        )
    table.caption = (
        f"memory of a device with {setup.config.optim.name} and {n_rows} sequences at once; activations estimated"
    )
    return table


def _data(setup: Setup) -> Table:
    table = Table("dataset", "tokens", "windows", "weight", "samples", "epochs", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    config = setup.config
    consumed = first_plan(setup).consumed(config.optim.steps * config.optim.batch)
    for (name, dataset), weight in zip(setup.datasets.items(), setup.weights, strict=True):
        n_windows = dataset.n_windows(setup.sequence_length)
        table.add_row(
            dataset.location,
            f"{dataset.n_tokens:,}",
            f"{n_windows:,}",
            f"{weight / sum(setup.weights):.1%}",
            f"{consumed[name]:,}",
            f"{consumed[name] / n_windows:.2f}",
        )
    return table


def _seconds_a_step(setup: Setup, group: Processes, precision: Precision) -> float:
    config = setup.config
    steps = max(config.optim.steps, 1 + _TIMED_STEPS)
    longer = config.model_copy(update={"optim": config.optim.model_copy(update={"steps": steps})})
    decoder = Decoder(setup.model)
    init_weights(decoder, config.seed)
    trainer = Trainer(replace(setup, config=longer), first_plan(setup), decoder, group, precision=precision)
    started = 0.0
    for rows in trainer.rows(1 + _TIMED_STEPS):
        trainer.train_step(rows)  # ends with the gradient's norm on the CPU, so the device has done its work
        if not started:
            group.barrier()
            started = time.perf_counter()
    return (time.perf_counter() - started) / _TIMED_STEPS


def _duration(seconds: float) -> str:
    days, seconds = divmod(round(seconds), 86_400)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if days:
        return f"{days} days {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
