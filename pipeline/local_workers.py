"""Local worker processes that a run notices the death of.

Beam's own multi-process mode waits for ever for a worker that was killed (2.77). Here the thread that waits for a
worker process breaks off the whole run when one dies: the pending requests fail, and the other workers are killed too,
so that the run ends in seconds and not with their current units. Workers die with the driver: a unit that is still
being written after the next run has begun would be published late.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler, WorkerHandler
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.transforms.environments import SubprocessSDKEnvironment

__all__ = ["WorkerDiedError", "worker_environment"]


class WorkerDiedError(RuntimeError):
    """A worker process ended before its work did; the message names its exit code."""


@contextlib.contextmanager
def worker_environment() -> Iterator[SubprocessSDKEnvironment]:
    """What FnApiRunner needs to start `corpusmill.pipeline.worker` processes, for the length of a block."""
    with TemporaryDirectory(prefix="corpusmill-") as folder:
        # `exec`: the shell that Beam starts becomes the worker, so that it is the worker which dies with us
        command = f"exec {shlex.quote(sys.executable)} -m corpusmill.pipeline.worker {shlex.quote(folder)}"
        with _interrupt_ends_workers(folder):
            yield SubprocessSDKEnvironment.from_command_string(command_string=command)


def _kill_workers(folder: str) -> None:
    for path in Path(folder).glob("*.pid"):
        with contextlib.suppress(OSError):
            os.kill(int(path.stem), signal.SIGKILL)


@contextlib.contextmanager
def _interrupt_ends_workers(folder: str) -> Iterator[None]:
    """On Ctrl-C Beam would wait for the units in work; they are done again anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    interrupted = threading.Event()

    def stop(number: int, frame: object) -> None:
        interrupted.set()
        _kill_workers(folder)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except Exception as error:
        if interrupted.is_set():  # the death of the workers was heard of first
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class _WatchedWorker(SubprocessSdkWorkerHandler):
    """Beam's handler of a worker process, with an end for the case that it dies."""

    def start_worker(self) -> None:
        """Start the process and the thread that waits for it."""
        self.worker = SubprocessSdkWorker(
            self._worker_command_line, self.control_address, self.provision_info, self.worker_id
        )
        self.worker_thread = threading.Thread(name="run_worker", target=self._watch, daemon=True)
        self.worker_thread.start()

    def _watch(self) -> None:
        try:
            self.worker.run()
        except RuntimeError as error:
            folder = shlex.split(self._worker_command_line.decode())[-1]
            _kill_workers(folder)
            for connection in list(self._grpc_server.control_handler._connections_by_worker_id.values()):
                connection.abort(WorkerDiedError(str(error)))
