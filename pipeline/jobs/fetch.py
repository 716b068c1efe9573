"""fetch: every input file is at hand, its content has a digest, and its units are known.

Local files and objects of a store are read in place. Downloads go to `raw/`; a multistream dump brings its index along.
"""

import functools
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from corpusmill.pipeline import sources
from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.remote import RemoteFile
from corpusmill.pipeline.download.transfer import download, download_spans, remove_part
from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.pipeline.plan import SourceFile, Unit, list_units
from corpusmill.pipeline.sources.record import open_input
from corpusmill.schemas.commits import Commit, read_commit
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.files import FileInfo, Files
from corpusmill.schemas.recipe import Fetch as FetchSettings

__all__ = ["Fetch", "fetched_units", "sha256_of"]

STAGE_VERSION = 2
_CHUNK = 4 << 20


class Fetch:
    """One task a file. The commit's detail holds `sha256`, `n_bytes` and the byte `ranges` of the units."""

    name = "fetch"
    heavy = False
    folders: tuple[str, ...] = ("raw",)

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in file order; a file read in place is identified by its version, so that it is hashed once."""
        tasks = []
        for file in run.inputs:
            spec = {
                "kind": file.kind,
                "location": file.location,
                "members": file.members,
                "whole": file.is_whole,
                "version": file.version,
                "n_bytes": file.n_bytes,
                "raw": file.raw_name if file.remote else None,
                "remote": file.remote.to_json() if file.remote else None,
                "unit_bytes": run.recipe.unit_bytes,
                "settings": run.recipe.fetch.model_dump(),
            }
            index = None if file.remote else _index_version(file)
            where = None if file.remote else file.location  # a mirror is no other file
            identity = [file.kind, where, file.version, index, file.remote.spans if file.remote else None]
            mark = fingerprint(self.name, STAGE_VERSION, run.recipe.unit_bytes, identity)
            tasks.append(Task(job=self.name, unit=file.name, fingerprint=mark, spec=spec))
        return tasks

    def lanes(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Downloads of a host, dealt to as many lanes as it takes connections; what is read in place is a lane each.

        Hosts that are mirrors of each other count as one. A lane makes one request at a time and keeps to its share of
        the host's requests per second. So the limits hold wherever the lanes run, without anybody counting.
        """
        downloads = [(_hosts(task), task) for task in tasks if task.spec["remote"] is not None]
        groups: list[frozenset[str]] = []
        for hosts in {hosts for hosts, _ in downloads}:
            apart = [group for group in groups if not group & hosts]
            groups = [*apart, hosts.union(*(group for group in groups if group & hosts))]
        lanes = [[task] for task in tasks if task.spec["remote"] is None]
        for group in sorted(groups, key=min):
            together = [task for hosts, task in downloads if hosts <= group]
            n = min(len(together), together[0].spec["settings"]["connections"])
            dealt = [replace(task, spec=task.spec | {"lanes": n, "lane": i % n}) for i, task in enumerate(together)]
            lanes = [dealt[i::n] for i in range(n)] + lanes
        return lanes

    @contextmanager
    def lane(self) -> Iterator[None]:
        """Close the connection of a lane at its end."""
        with ExitStack() as _lane.open:
            yield
        _lane.client = None

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Download if need be, hash, cut into units.

        Raises:
            SourceError: the download fails.
        """
        spec = task.spec
        published: list[FileInfo] = []
        if spec["remote"] is not None:
            with watch("download"):
                published = _download(task, files)
            location, sha256, n_bytes = files.url(spec["raw"]), published[0].sha256, published[0].n_bytes
        else:
            location = spec["location"]
            with watch("hash"):
                sha256, n_bytes = sha256_of(location, spec["members"])
        with watch("index"):
            ranges = [(0, n_bytes)]
            if not spec["whole"]:
                index = sources.index_of(spec["kind"], location)
                ranges = sources.ranges(
                    spec["kind"], location, index=index, n_bytes=n_bytes, target_bytes=spec["unit_bytes"]
                )
        with outputs(files, self.name, task.unit, watch) as out:
            detail = {"sha256": sha256, "n_bytes": n_bytes, "ranges": [list(pair) for pair in ranges]}
            counts = {"files": max(1, len(spec["members"])), "bytes": n_bytes, "units": len(ranges)}
            if spec["remote"] is not None:
                detail["version"] = spec["version"]
                counts |= {"downloaded": 1, "downloaded_bytes": n_bytes}
            out.commit(task.fingerprint, counts, detail, published)
        for info in published:
            remove_part(files.partial_path(info.name))


def _index_version(file: SourceFile) -> list[int] | None:
    """Size and time of a local dump's index: it decides where units begin."""
    index = sources.index_of(file.kind, file.location)
    if index is None or "://" in index or not Path(index).exists():
        return None
    stat = Path(index).stat()
    return [stat.st_size, stat.st_mtime_ns]


def _download(task: Task, files: Files) -> list[FileInfo]:
    """Bring a file, and its index, to `raw/`; what an earlier run has brought stays."""
    spec = task.spec
    remote = RemoteFile.from_json(spec["remote"])
    earlier = read_commit(files, task.job, task.unit)
    if earlier is not None and earlier.detail.get("version") == spec["version"] and _all_there(earlier.outputs, files):
        return earlier.outputs
    published = [_bring(remote, spec["raw"], spec, files)]
    if remote.index is not None:
        name = spec["raw"].rpartition("/")[0] + "/" + remote.index.path.rpartition("/")[2]
        try:
            published.append(_bring(remote.index, name, spec, files))
        except SourceError:
            if remote.index.sha1 is not None:  # the server listed it
                raise
    return published


def _bring(remote: RemoteFile, name: str, spec: Mapping[str, Any], files: Files) -> FileInfo:
    part = files.partial_path(name)
    part.parent.mkdir(parents=True, exist_ok=True)
    client = _client(spec)
    if files.is_local and not part.exists() and files.exists(name):  # published, but stopped before the commit
        Path(files.path(name)).replace(part)
    if remote.spans:
        done = download_spans(client, remote.urls, remote.spans, part)
    else:
        done = download(client, remote.urls, part, n_bytes=remote.n_bytes, sha1=remote.sha1)
    files.move_into_place(part, name)
    return FileInfo(name=name, sha256=done.sha256, n_bytes=done.n_bytes)


class _Lane(threading.local):
    """The client of the lane that this thread does: it keeps its connection, and its pace, from file to file."""

    client: Client | None = None
    open: ExitStack


_lane = _Lane()


def _client(spec: Mapping[str, Any]) -> Client:
    if _lane.client is None:
        client = Client(FetchSettings(**spec["settings"]), lanes=spec["lanes"], lane=spec["lane"])
        _lane.client = _lane.open.enter_context(client)
    return _lane.client


def _all_there(outputs: Sequence[FileInfo], files: Files) -> bool:
    return bool(outputs) and all(
        files.exists(info.name) and files.fs.size(files.path(info.name)) == info.n_bytes for info in outputs
    )


def sha256_of(location: str, members: Sequence[Sequence[Any]] = ()) -> tuple[str, int]:
    """Digest and size of a file; of small files read as one, in order, with their names.

    Args:
        location: local path or fsspec URL; with members their folder.
        members: (path below `location`, bytes) each.

    Raises:
        SourceError: a file is gone.
        OSError: it cannot be read.
    """
    sha256, n_bytes = hashlib.sha256(), 0
    for name, _ in members or [(None, 0)]:
        if name is not None:
            sha256.update(f"\0{name}\0".encode())
        with open_input(location if name is None else f"{location}/{name}") as handle:
            for chunk in iter(functools.partial(handle.read, _CHUNK), b""):
                sha256.update(chunk)
                n_bytes += len(chunk)
    return sha256.hexdigest(), n_bytes


def _hosts(task: Task) -> frozenset[str]:
    """The hosts that a download may ask."""
    remote = RemoteFile.from_json(task.spec["remote"])
    urls = remote.urls + (remote.index.urls if remote.index else ())
    return frozenset(urlsplit(url).netloc.rpartition("@")[2] for url in urls)


def fetched_units(file: SourceFile, commit: Commit, files: Files) -> list[Unit]:
    """The units of a fetched file."""
    location = files.url(file.raw_name) if file.remote else file.location
    return list_units(file, location, [(start, end) for start, end in commit.detail["ranges"]])
