"""What a person sees of long work."""

import json
from pathlib import Path
from typing import Any

from corpusmill.pipeline.jobs.base import Task
from corpusmill.pipeline.progress import _Downloads
from corpusmill.schemas.commits import Commit
from corpusmill.schemas.files import Files


def task(name: str, n_bytes: int | None) -> Task:
    spec: dict[str, Any] = {"raw": f"raw/s/{name}", "n_bytes": n_bytes}
    return Task(job="fetch", unit=name, fingerprint="f", spec=spec)


def commit(files: Files, name: str, n_bytes: int) -> None:
    Commit(job="fetch", unit=name, fingerprint="f", outputs=[], counts={}, detail={"n_bytes": n_bytes}).publish(files)


def test_bytes_of_downloads_are_those_that_are_here_and_files_of_unknown_size_count_as_the_mean(tmp_path: Path) -> None:
    files = Files(tmp_path)
    tally = _Downloads([[task("a", 100), task("b", 300)], [task("c", None), task("d", None)]], files)
    assert tally.poll() == (0, 800)
    commit(files, "a", 100)
    part = files.partial_path("raw/s/b")
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(120))
    assert tally.poll() == (220, 800), "the part of the file that comes next in its lane"
    part = files.partial_path("raw/s/c")
    part.write_bytes(bytes(50))
    part.with_name(f"{part.name}.json").write_text(json.dumps({"size": 800}))
    assert tally.poll() == (270, 1600), "a server has told the size of c: the mean is 400"
    for name, n_bytes in (("b", 300), ("c", 800), ("d", 10)):
        commit(files, name, n_bytes)
    assert tally.poll() == (1210, 1210)


def test_nothing_is_claimed_before_any_size_is_known(tmp_path: Path) -> None:
    assert _Downloads([[task("a", None)]], Files(tmp_path)).poll() == (0, None)
