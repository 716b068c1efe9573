"""Units that kill their worker, units that were only unlucky, and errors that are nobody's fault."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import yaml

from corpusmill.pipeline.jobs.base import attempt_name
from corpusmill.pipeline.run import run
from corpusmill.pipeline.stages import language
from corpusmill.schemas.errors import LeaseError, LedgerError, SourceError, UsageError, WorkerError
from corpusmill.schemas.files import Files, StagedFile
from corpusmill.schemas.recipe import Recipe
from tests.corpus import prose, write_jsonl
from tests.digest import contents


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    texts = prose("en")
    for name in ("fine", "poison"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": "\n".join(texts[i : i + 3])} for i in range(0, 12, 3)])
    source = {"kind": "jsonl", "name": "rows", "paths": [str(tmp_path / "*.jsonl")]}
    return {"sources": [source], "tokenizer": {"train": {"vocab_size": 512}}}


def test_a_unit_that_kills_its_worker_is_quarantined_at_the_third_start(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "corpusmill.cli.main", "run", str(tmp_path / "recipe.yaml")]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent / "poison")}
    runs = [
        subprocess.run([*command, "--out", str(tmp_path / "run")], env=env, capture_output=True, text=True, check=False)
        for _ in range(3)
    ]
    assert [done.returncode for done in runs] == [-signal.SIGKILL, -signal.SIGKILL, 3], runs[2].stderr
    assert "is quarantined, its process was killed by signal 9" in runs[2].stderr
    ledger = ds.dataset(tmp_path / "run/ledger").to_table().to_pylist()
    damaged = [row for row in ledger if row["verdict"] == "damaged"]
    assert [(row["file_path"], row["offset"], row["stage"]) for row in damaged] == [("poison.jsonl", 0, "worker")]
    assert len(ledger) == 1 + 4, "the other unit is whole"


def test_a_killed_worker_process_fails_the_run_in_seconds(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "corpusmill.cli.main", "run", str(tmp_path / "recipe.yaml"), "--workers", "2"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent / "poison")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "a worker process died (killed, or out of memory); nothing committed is lost" in done.stderr
    assert "Traceback" not in done.stderr


def test_units_that_were_only_interrupted_are_never_quarantined(recipe: dict[str, Any], tmp_path: Path) -> None:
    made = Recipe.model_validate(recipe)
    run(made, str(tmp_path / "plain"))
    files = Files(tmp_path / "run")
    for path in (tmp_path / "plain/commits").rglob("*.json"):
        job, unit = path.parent.name, path.stem
        if job != "dedup":
            files.write_bytes(attempt_name(job, unit), json.dumps({"started": 2}).encode())
    report = run(made, files.root)
    assert report.exit_code == 0
    assert contents(files.root) == contents(str(tmp_path / "plain"))
    assert files.list("attempts") == []


def test_an_exception_in_a_worker_names_the_unit(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(language, "identify", fail)
    with pytest.raises(WorkerError, match=r"extract: unit rows-fine-\w+ failed: ZeroDivisionError: a bug"):
        run(Recipe.model_validate(recipe), str(tmp_path / "run"))
    monkeypatch.undo()
    assert run(Recipe.model_validate(recipe), str(tmp_path / "run")).exit_code == 0


def test_a_full_disk_never_quarantines(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Recipe.model_validate(recipe)
    write = StagedFile.write

    def full(self: StagedFile, data: Any) -> int:
        if self.name.startswith("documents/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(StagedFile, "write", full)
    for _ in range(4):
        with pytest.raises(
            WorkerError, match=r"extract: unit rows-\w+-\w+ failed: \[Errno 28\] No space left on device"
        ):
            run(made, str(tmp_path / "run"))
    monkeypatch.undo()
    report = run(made, str(tmp_path / "run"))
    assert (report.exit_code, report.books["damaged"]) == (0, 0)


def test_an_interrupt_is_an_interrupt(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(language, "identify", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(Recipe.model_validate(recipe), str(tmp_path / "run"))
    monkeypatch.undo()
    assert run(Recipe.model_validate(recipe), str(tmp_path / "run")).exit_code == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_with_one_line_and_130(recipe: dict[str, Any], tmp_path: Path, workers: str) -> None:
    texts = prose("en")
    for name in ("fine", "poison"):
        rows = [{"text": "\n".join(texts[i % 40 : i % 40 + 5])} for i in range(20_000)]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "corpusmill.cli.main", "run", str(tmp_path / "recipe.yaml"), "--workers", workers]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.time() + 120
    while not list((tmp_path / "run/attempts/extract").glob("*")):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.strip() == "corpusmill run: stopped; what is committed stays, the same command goes on"


def test_a_download_that_fails_says_so_and_publishes_nothing(tmp_path: Path) -> None:
    source = {"kind": "jsonl", "name": "rows", "paths": ["http://127.0.0.1:9/rows.jsonl"]}
    with pytest.raises(SourceError, match=r"http://127.0.0.1:9/rows.jsonl cannot be downloaded: .*refused"):
        run(Recipe.model_validate({"sources": [source], "fetch": {"retries": 0}}), str(tmp_path / "run"))
    assert Files(tmp_path / "run").list("raw") == ["raw/rows/rows.jsonl.part"], "what is there is kept for the next run"
    assert Files(tmp_path / "run").list("commits") == []


def test_books_that_do_not_balance_fail_the_run(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpusmill.pipeline.jobs import shard

    whole = shard.read_survivors
    monkeypatch.setattr(shard, "read_survivors", lambda *args: whole(*args).slice(1))
    with pytest.raises(LedgerError, match=r"the ledger keeps \d+ records, the shards hold \d+ rows"):
        run(Recipe.model_validate(recipe), str(tmp_path / "run"))
    assert not (tmp_path / "run/dataset/manifest.json").exists()


def test_a_folder_that_is_held_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    from corpusmill.schemas import lease

    with lease.hold(Files(tmp_path / "run"), print), pytest.raises(LeaseError):
        run(Recipe.model_validate(recipe), str(tmp_path / "run"))


def test_wrong_calls_fail_before_anything_is_written(recipe: dict[str, Any], tmp_path: Path) -> None:
    made = Recipe.model_validate(recipe)
    with pytest.raises(UsageError, match="--from 'extrct': there is no such job; jobs: fetch, extract"):
        run(made, str(tmp_path / "run"), from_job="extrct")
    with pytest.raises(UsageError, match="memory of this process"):
        run(made, "memory://x", workers=2)
    assert not (tmp_path / "run").exists()
