"""fetch: every input file is at hand, its content has a digest, and its units are known.

Local files are read in place. Downloads go to `raw/`; a Wikipedia dump brings its index along.
"""

import hashlib
from pathlib import Path
from typing import Any

import fsspec

from corpusmill.pipeline import sources
from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.pipeline.plan import SourceFile, Unit, list_units
from corpusmill.pipeline.sources.download import download
from corpusmill.schemas.commits import Commit
from corpusmill.schemas.files import FileInfo, Files

__all__ = ["Fetch", "fetched_units"]

STAGE_VERSION = 1
_CHUNK = 4 << 20


class Fetch:
    """One task a file. The commit's detail holds `sha256`, `n_bytes` and the byte `ranges` of the units."""

    name = "fetch"
    heavy = False
    folders: tuple[str, ...] = ("raw",)

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in file order; a local file is identified by path, size and time, so that it is hashed once."""
        tasks = []
        for file in run.inputs:
            if file.is_remote:
                identity: list[Any] = [file.location]
            else:
                # mtimes of the index count too: it decides where units begin
                index = sources.index_of(file.kind, file.location)
                paths = [Path(path) for path in (file.location, index) if path is not None]
                stats = [path.stat() for path in paths if path.exists()]
                identity = [file.location, [[stat.st_size, stat.st_mtime_ns] for stat in stats]]
            spec = {
                "source": file.source,
                "kind": file.kind,
                "file_path": file.file_path,
                "location": file.location,
                "raw": file.raw_name if file.is_remote else None,
                "unit_bytes": run.recipe.unit_bytes,
            }
            mark = fingerprint(self.name, STAGE_VERSION, run.recipe.unit_bytes, identity)
            tasks.append(Task(job=self.name, unit=file.name, fingerprint=mark, spec=spec))
        return tasks

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Download if need be, hash, cut into units.

        Raises:
            SourceError: the download fails, or the index that says where units begin is missing.
        """
        spec = task.spec
        published: list[FileInfo] = []
        location, kind = spec["location"], spec["kind"]
        if spec["raw"] is not None:
            with watch("download"):
                wanted = [(location, spec["raw"])]
                index_url = sources.index_of(kind, location)
                if index_url is not None:
                    wanted.append((index_url, sources.index_of(kind, spec["raw"]) or ""))
                for url, name in wanted:
                    staged = files.stage(name)
                    try:
                        download(url, staged)
                    except BaseException:
                        staged.discard()
                        raise
                    published.append(staged.publish())
            location = files.url(spec["raw"])
        with watch("hash"):
            sha256, n_bytes = _digest(location)
        with watch("index"):
            ranges = sources.ranges(
                kind,
                location,
                index=sources.index_of(kind, location),
                n_bytes=n_bytes,
                target_bytes=spec["unit_bytes"],
            )
        with outputs(files, self.name, task.unit, watch) as out:
            detail = {"sha256": sha256, "n_bytes": n_bytes, "ranges": [list(pair) for pair in ranges]}
            counts = {"files": 1, "bytes": n_bytes, "units": len(ranges)}
            out.commit(task.fingerprint, counts, detail, published)


def _digest(location: str) -> tuple[str, int]:
    sha256, n_bytes = hashlib.sha256(), 0
    with fsspec.open(location, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            sha256.update(chunk)
            n_bytes += len(chunk)
    return sha256.hexdigest(), n_bytes


def fetched_units(file: SourceFile, commit: Commit, files: Files) -> list[Unit]:
    """The units of a fetched file."""
    location = files.url(file.raw_name) if file.is_remote else file.location
    return list_units(file, location, [(start, end) for start, end in commit.detail["ranges"]])
