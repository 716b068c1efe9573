"""The one file layer: everything corpusmill writes goes through `Files`.

It assumes what an object store gives and no more: a name is written whole or not at all, there is no append and
no rename that anything depends on, and a listing is never the truth (readers take names from plans and commit
records; listings only sweep leftovers). On a local disk a file is written under ``tmp/`` with a name of its own
for each attempt and moved into place; elsewhere it is spooled to a local temporary file and uploaded in one call,
which object stores make visible only when complete.

``set_hook`` lets a test stop the process at every step: the hook is called with a step and a name before the
step ``delete`` and ``publish`` and after the step ``published``; what it raises passes through.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

__all__ = ["TEMPORARY", "FileInfo", "Files", "StagedFile", "set_hook"]

Hook = Callable[[str, str], None]

TEMPORARY = "tmp"
"""Folder below the root for files that are not published; swept when a run starts."""

_hook: Hook | None = None


def set_hook(hook: Hook | None) -> None:
    """Call `hook(step, name)` at each step of each write in this process; None switches it off."""
    global _hook
    _hook = hook


def _step(step: str, name: str) -> None:
    if _hook is not None:
        _hook(step, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """A published file.

    Attributes:
        name: path below the root, with `/`.
        sha256: of the content, 64 hex digits.
        n_bytes: size.
    """

    name: str
    sha256: str
    n_bytes: int


class StagedFile:
    """A file being written that nobody can see yet. Writable binary file object that hashes as it goes."""

    def __init__(self, files: "Files", name: str) -> None:
        self.name = name
        self._files = files
        self._sha256 = hashlib.sha256()
        self._n_bytes = 0
        self.path = files.temporary_path()
        self._handle: IO[bytes] = self.path.open("wb")

    def write(self, data: Any) -> int:
        """Append bytes or any buffer; returns the number of bytes written."""
        view = memoryview(data).cast("B")
        self._handle.write(view)
        self._sha256.update(view)
        self._n_bytes += len(view)
        return len(view)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._n_bytes

    def flush(self) -> None:
        """Hand buffered bytes to the operating system."""
        if not self._handle.closed:
            self._handle.flush()

    @property
    def closed(self) -> bool:
        """Whether the content is complete."""
        return self._handle.closed

    def close(self) -> None:
        """Finish the content; it stays invisible until `publish`."""
        self._handle.close()

    def publish(self) -> FileInfo:
        """Put the content under its final name in one step, replacing what is there."""
        self.close()
        self._files.move_into_place(self.path, self.name)
        return FileInfo(name=self.name, sha256=self._sha256.hexdigest(), n_bytes=self._n_bytes)

    def discard(self) -> None:
        """Drop the content."""
        with contextlib.suppress(OSError):  # what is still buffered may find no room
            self.close()
        self.path.unlink(missing_ok=True)


class Files:
    """The files below one root, a local path or any fsspec URL (`memory://run`, `gs://bucket/run`).

    Names are relative to the root and use `/`. An instance is cheap to make and to pickle.
    """

    def __init__(self, root: str | Path) -> None:
        url = str(root)
        if "://" not in url:
            url = str(Path(url).absolute())
        self.root = url.rstrip("/")
        self.fs, self._base = fsspec.url_to_fs(self.root)
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.is_private = isinstance(self.fs, MemoryFileSystem)
        """True when no other process can see the files."""

    def __reduce__(self) -> tuple[type["Files"], tuple[str]]:
        return (Files, (self.root,))

    def path(self, name: str) -> str:
        """The path of a name in the file system's own terms."""
        return f"{self._base}/{name}"

    def url(self, name: str) -> str:
        """What opens the name from anywhere: a local path or an fsspec URL."""
        return f"{self.root}/{name}"

    def temporary_path(self) -> Path:
        """A fresh local path for content that is not published yet; unique for each attempt."""
        if not self.is_local:
            return Path(tempfile.gettempdir()) / f"corpusmill-{uuid.uuid4().hex}"
        folder = Path(self.path(TEMPORARY))
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def partial_path(self, name: str) -> Path:
        """The local path where a download is collected; the same for each attempt, so that it can be resumed."""
        if not self.is_local:
            return (
                Path(tempfile.gettempdir()) / f"corpusmill-{hashlib.sha256(self.url(name).encode()).hexdigest()}.part"
            )
        return Path(self.path(f"{name}.part"))

    def stage(self, name: str) -> StagedFile:
        """Begin a file that becomes visible only by `StagedFile.publish`."""
        return StagedFile(self, name)

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[StagedFile]:
        """Write a file and publish it when the block ends without an exception."""
        staged = self.stage(name)
        try:
            yield staged
        except (Exception, KeyboardInterrupt):
            staged.discard()
            raise
        staged.publish()

    def write_bytes(self, name: str, data: bytes) -> FileInfo:
        """Publish `data` under `name`."""
        staged = self.stage(name)
        staged.write(data)
        return staged.publish()

    def move_into_place(self, path: Path, name: str) -> None:
        """Publish the finished local file `path` under `name`."""
        _step("publish", name)
        if self.is_local:
            target = Path(self.path(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        else:
            self.fs.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)
            self.fs.put_file(str(path), self.path(name))
            path.unlink()
        _step("published", name)

    def write_new(self, name: str, data: bytes) -> bool:
        """Publish `data` only if nothing has that name yet; returns whether it was published."""
        path = self.path(name)
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            if self.is_local:
                whole = self.temporary_path()
                whole.write_bytes(data)
                try:
                    os.link(whole, path)  # unlike a rename it refuses a name that is taken
                finally:
                    whole.unlink()
            else:
                self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def read_bytes(self, name: str) -> bytes:
        """Content of a published file. Raises FileNotFoundError."""
        return cast(bytes, self.fs.cat_file(self.path(name)))

    def read_or_none(self, name: str) -> bytes | None:
        """Content of a published file, None where there is none."""
        try:
            return self.read_bytes(name)
        except FileNotFoundError:
            return None

    def sha256(self, name: str) -> str:
        """Digest of a published file, 64 hex digits, read piece by piece. Raises FileNotFoundError."""
        with self.open(name) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()  # type: ignore[arg-type]  # IO[bytes] will do

    def open(self, name: str) -> IO[bytes]:
        """A published file as a seekable binary file object."""
        return cast(IO[bytes], self.fs.open(self.path(name), "rb"))

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self.fs.exists(self.path(name)))

    def delete(self, name: str) -> None:
        """Remove a file; no error where there is none."""
        _step("delete", name)
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    def list(self, folder: str) -> list[str]:
        """Names of the files below a folder, sorted; for sweeping and display, never as the truth."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the files below a folder, by name."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(self.path(folder), detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._base.rstrip("/")) + 1
        return {str(path)[start:]: int(info["size"]) for path, info in found.items()}

    def sweep(self) -> None:
        """Remove what earlier attempts left unpublished."""
        if self.is_local:
            shutil.rmtree(self.path(TEMPORARY), ignore_errors=True)
        elif self.exists(TEMPORARY):
            self.fs.rm(self.path(TEMPORARY), recursive=True)
