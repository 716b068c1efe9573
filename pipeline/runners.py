"""Where a job runs: in this process, in local worker processes, on Dask, or on any other Beam runner.

The local runner is Beam's FnApiRunner by name (`DirectRunner` first tries to download another one). A job goes to
worker processes when that was asked for and it is a heavy one, or when its estimated work is worth their start.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from corpusmill.pipeline.local_workers import WorkerDiedError, worker_environment
from corpusmill.schemas.errors import UsageError, WorkerError

__all__ = ["BeamRunner", "check_runner", "local_workers", "open_runner"]

WORTH_WORKERS = 60.0
"""CPU seconds of estimated work above which worker processes pay (about 1.8 CPU s a worker to start)."""

Build = Callable[[beam.Pipeline], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class BeamRunner:
    """One way to run a graph.

    Attributes:
        name: what the user calls it.
        runner: what Beam calls it.
        options: Beam options, as on a command line.
        shared_files: whether workers see each other's scratch files.
        spread: number of workers for which a job can be split; 0 where the runner decides.
    """

    name: str
    runner: str
    options: tuple[str, ...]
    shared_files: bool
    spread: int

    def run(self, build: Build, *, n_tasks: int, cost: float, heavy: bool) -> None:
        """Run one graph to its end.

        Args:
            build: adds the graph to a pipeline.
            n_tasks: units in the graph.
            cost: estimated CPU seconds.
            heavy: whether the job is worth worker processes when the user asked for some.

        Raises:
            WorkerError: a worker died.
        """
        several = self.name == "local" and self.spread > 1 and n_tasks > 1 and (heavy or cost > WORTH_WORKERS)
        with _quiet(), contextlib.ExitStack() as stack:
            runner: str | FnApiRunner = self.runner
            options = []
            if several:
                runner = FnApiRunner(default_environment=stack.enter_context(worker_environment()))
                options += [f"--direct_num_workers={min(self.spread, n_tasks)}"]
            elif self.name == "dask":
                options += [f"--dask_npartitions={n_tasks}"]
            options += self.options  # the user's come last and win
            pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options, pipeline_type_check=False))
            build(pipeline)
            try:
                result = pipeline.run()
                if self.name == "dask":  # the runner opens a client for each graph and leaves it open
                    stack.callback(result.client.close)
                result.wait_until_finish()
            except WorkerDiedError as error:
                raise WorkerError(
                    "a worker process died (killed, or out of memory); nothing committed is lost: "
                    f"run the same command again to go on ({error})"
                ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Beam and Dask log every start and end, and Beam's threads the end of a worker; errors arrive as exceptions."""
    level, hook = logging.root.manager.disable, threading.excepthook

    def ignore_closed_channels(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, grpc.RpcError):
            hook(args)

    logging.disable(logging.ERROR)
    threading.excepthook = ignore_closed_channels
    try:
        yield
    finally:
        logging.disable(level)
        threading.excepthook = hook


def check_runner(name: str, beam_options: Sequence[str]) -> None:
    """Refuse runners that do not exist, and what cannot be Beam options.

    Raises:
        UsageError: naming the runner or the first word.
    """
    if name not in ("local", "dask"):
        try:
            create_runner(name)
        except (ValueError, ImportError) as error:
            raise UsageError(f"--runner {name!r}: {error}; use local, dask, or a runner of Beam") from error
    if beam_options and not beam_options[0].startswith("-"):
        raise UsageError(
            f"{beam_options[0]!r} is not an option: what follows -- goes to Beam, such as -- --region=europe-west4"
        )


def local_workers(workers: int | None, cost: float) -> int:
    """Worker processes for the local runner: as asked, else all cores once the work is worth their start."""
    if workers is not None:
        return workers
    return (os.cpu_count() or 1) if cost > WORTH_WORKERS else 1


@contextlib.contextmanager
def open_runner(name: str, *, workers: int, beam_options: Sequence[str]) -> Iterator[BeamRunner]:
    """The runner of a run; a Dask cluster that it starts itself ends with the block.

    Args:
        name: local, dask, or a Beam runner's name.
        workers: processes of the local runner or of a Dask cluster started here.
        beam_options: handed to Beam as they are.

    Raises:
        UsageError: Dask is not installed.
    """
    options = tuple(beam_options)
    if name == "local":
        yield BeamRunner(name=name, runner="FnApiRunner", options=options, shared_files=True, spread=workers)
    elif name == "dask":
        with _dask_address(options, workers) as address:
            yield BeamRunner(
                name=name,
                runner="apache_beam.runners.dask.dask_runner.DaskRunner",
                options=(*options, *address),
                shared_files=False,
                spread=0,
            )
    else:
        yield BeamRunner(name=name, runner=name, options=options, shared_files=False, spread=0)


@contextlib.contextmanager
def _dask_address(options: Sequence[str], workers: int) -> Iterator[list[str]]:
    if any(option.startswith(("--dask_client_address", "--dask_scheduler_file")) for option in options):
        yield []
        return
    try:
        from dask.distributed import LocalCluster
    except ImportError as error:
        raise UsageError("--runner dask needs Dask: pip install 'corpusmill[pipeline,dask]'") from error
    with (
        _quiet(),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.ERROR,
            preload="corpusmill.pipeline.worker",
        ) as cluster,
    ):
        yield [f"--dask_client_address={cluster.scheduler_address}"]
