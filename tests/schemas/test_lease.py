"""One run at a time in a folder; a lease whose holder is gone is broken, with a message."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corpusmill.schemas import lease
from corpusmill.schemas.errors import LeaseError
from corpusmill.schemas.files import Files


def write(files: Files, **changes: object) -> None:
    values = {"host": socket.gethostname(), "pid": os.getppid(), "process_started": "0", "since": 0.0, "renewed": 0.0}
    files.write_bytes(lease.LEASE, json.dumps({**values, "token": "other", **changes}).encode())


def test_a_folder_that_is_held_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with lease.hold(files, print):
        assert lease.holder(files) is not None
        with pytest.raises(LeaseError, match=f"held by process {os.getpid()} on"), lease.hold(files, print):
            pass
    assert lease.holder(files) is None
    assert not files.exists(lease.LEASE)


def test_a_live_process_of_this_host_holds_its_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from corpusmill.schemas import lease; from corpusmill.schemas.files import Files\n"
        "with lease.hold(Files(sys.argv[1]), print):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(LeaseError, match=f"held by process {other.pid}"), lease.hold(Files(tmp_path), print):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    said: list[str] = []
    with lease.hold(Files(tmp_path), said.append):
        assert said == [f"broke the stale lease of an earlier run on {tmp_path}"]


def test_a_pid_that_was_given_out_again_holds_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path)
    write(files)  # our parent is alive, but it did not start at 0
    assert lease.holder(files) is None


@pytest.mark.parametrize(("age", "held"), [(1.0, True), (lease.STALE_SECONDS + 1, False)])
def test_another_host_is_believed_while_it_gives_signs(tmp_path: Path, age: float, held: bool) -> None:
    files = Files(tmp_path)
    write(files, host="elsewhere", renewed=time.time() - age)
    assert (lease.holder(files) is not None) is held


def test_a_lease_cut_short_by_a_crash_is_stale(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write_bytes(lease.LEASE, b'{"host": "x')
    assert lease.holder(files) is None


def test_a_lease_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    files = Files(tmp_path)
    with lease.hold(files, print):
        first = json.loads(files.read_bytes(lease.LEASE))["renewed"]
        deadline = time.time() + 5
        while json.loads(files.read_bytes(lease.LEASE))["renewed"] == first:
            assert time.time() < deadline
            time.sleep(0.01)
