"""A run folder belongs to one run at a time: a lease file, renewed by a thread, broken when its holder is gone."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corpusmill.schemas.errors import LeaseError
from corpusmill.schemas.files import Files

__all__ = ["LEASE", "hold", "holder"]

LEASE = "lease.json"
RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A lease of another host that was not renewed for so long is stale."""

_held: set[str] = set()
"""Leases that this process holds: an earlier run in the same process may have been stopped without a trace."""


def holder(files: Files) -> dict[str, Any] | None:
    """Who holds the folder (`host`, `pid`, `since`, `renewed`, `token`), None if nobody who is alive does."""
    data = files.read_or_none(LEASE)
    if data is None:
        return None
    try:
        lease: dict[str, Any] = json.loads(data)
        return lease if _alive(lease) else None
    except (ValueError, KeyError):  # cut short by a crash
        return None


def _alive(lease: dict[str, Any]) -> bool:
    if lease["host"] != socket.gethostname():
        return bool(time.time() - lease["renewed"] < STALE_SECONDS)
    if lease["pid"] == os.getpid():
        return lease["token"] in _held
    return bool(_started(lease["pid"]) == lease["process_started"])


def _started(pid: int) -> str | None:
    """When a process of this host started, None if there is none: a pid alone may have been given out again."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return "running"
    return None


@contextlib.contextmanager
def hold(files: Files, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the run folder for the block.

    Args:
        files: the run folder.
        say: is told when a stale lease is broken.

    Raises:
        LeaseError: another run that is alive holds it.
    """
    lease: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": _started(os.getpid()),
        "since": time.time(),
        "renewed": time.time(),
        "token": uuid.uuid4().hex,
    }
    if not files.write_new(LEASE, json.dumps(lease).encode()):
        other = holder(files)
        if other is not None:
            raise LeaseError(
                f"{files.root} is held by process {other['pid']} on {other['host']}; "
                f"wait for it to end, or stop it (a lease ends {STALE_SECONDS:.0f} s after its last sign)"
            )
        if holder(files) is None:  # once more: another run may have broken it by now
            files.delete(LEASE)
            say(f"broke the stale lease of an earlier run on {files.root}")
        if not files.write_new(LEASE, json.dumps(lease).encode()):
            raise LeaseError(f"{files.root} was taken by another run at this moment; try again")
    _held.add(lease["token"])
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(files, lease, stop), daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _held.discard(lease["token"])
        if _is_ours(files, lease):
            files.delete(LEASE)


def _renew(files: Files, lease: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        with contextlib.suppress(OSError):  # a full disk, a network that is away: the next renewal may do
            if not _is_ours(files, lease):  # this host slept, and another run has begun
                return
            files.write_bytes(LEASE, json.dumps(lease | {"renewed": time.time()}).encode())


def _is_ours(files: Files, lease: dict[str, Any]) -> bool:
    data = files.read_or_none(LEASE)
    return data is not None and json.loads(data)["token"] == lease["token"]
