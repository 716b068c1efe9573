"""From a path of the recipe to the files that it means: local paths, object stores, web servers, globs, folders."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec

from corpusmill.pipeline.download.client import redact
from corpusmill.pipeline.sources.tables import dataset
from corpusmill.schemas.errors import CorpusmillError, RecipeError, SourceError

__all__ = ["Found", "expand", "is_http"]

_ESCAPED = re.compile(r"\[([\[*?])\]")  # as glob.escape writes a character that is no wildcard
_FIXED = re.compile(rf"(?:{_ESCAPED.pattern}|[^*?\[])*")
_FIXED_URL = re.compile(r"[^*\[]*")  # a question mark begins the query
_SUFFIXES: Final = {
    "html": (".html", ".htm", ".xhtml", ".zip"),
    "text": (".txt", ".text", ".txt.gz", ".txt.zst"),
}
_EXTRA: Final = {"s3": "s3", "s3a": "s3", "gs": "gcp", "gcs": "gcp"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A file that a path means.

    Attributes:
        location: local path or URL.
        root: what comes before the first wildcard, up to the last `/`; file names are relative to it.
        n_bytes: size; None for a file on a web server.
        version: changes when the file does (size and time, or what the store calls its version); None on a web server.
    """

    location: str
    root: str
    n_bytes: int | None = None
    version: str | None = None


def is_http(path: str) -> bool:
    """Whether a path is downloaded before it is read; all others are read in place."""
    return path.startswith(("http://", "https://"))


def expand(kind: str, path: str) -> list[Found]:
    """The files that a path means, sorted by location.

    Args:
        kind: of the source: folders are read by `html` and `text` (all files of such names below), and by `dataset`.
        path: local path, fsspec URL or http(s) URL, or a glob of one.

    Raises:
        RecipeError: a scheme that is not known, or whose package is not installed.
        SourceError: a store or server that does not answer, or a folder that is no dataset.
    """
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    found = _http if is_http(path) else _object_store if "://" in path else _local
    return sorted(found(kind, path), key=lambda file: file.location)


def _local(kind: str, path: str) -> Iterator[Found]:
    if Path(path).is_file():
        fixed, names = path, [path]
    else:
        start = _FIXED.match(path)
        fixed = _ESCAPED.sub(r"\1", start[0] if start else "")
        names = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    root = path.rstrip("/") if Path(path).is_dir() else fixed.rpartition("/")[0]  # names start in a named folder
    for name in names:
        members = [Path(name)]
        if Path(name).is_dir():
            members = [Path(name) / member for member in dataset.list_data_files(name)] if kind == "dataset" else []
            if kind in _SUFFIXES:
                members = [member for member in Path(name).rglob("*") if member.name.lower().endswith(_SUFFIXES[kind])]
        for member in members:
            if member.is_file():
                stat = member.stat()
                version = f"{stat.st_size}:{stat.st_mtime_ns}"
                yield Found(location=str(member), root=root, n_bytes=stat.st_size, version=version)


def _object_store(kind: str, path: str) -> Iterator[Found]:
    scheme = path.partition("://")[0]
    try:
        fs, name = fsspec.url_to_fs(path)
        yield from _list_store(kind, f"{scheme}://{name.lstrip('/')}", fs, name)
    except ImportError as error:
        extra = _EXTRA.get(scheme)
        how = f"pip install 'corpusmill[{extra}]'" if extra else str(error)
        raise RecipeError(f"{redact(path)!r}: {scheme}:// needs a package that is not installed: {how}") from error
    except FileNotFoundError:
        return
    except CorpusmillError:
        raise
    except Exception as error:  # each store raises what its library raises
        if scheme not in fsspec.available_protocols():
            known = "local paths, http(s), s3, gs and other URLs of fsspec can be read"
            raise RecipeError(f"{redact(path)!r}: {error}; {known}") from error
        raise SourceError(f"{redact(path)} cannot be listed: {type(error).__name__}: {error}") from error


def _list_store(kind: str, path: str, fs: Any, name: str) -> Iterator[Found]:
    fs.invalidate_cache()
    has_wildcard = glob.has_magic(name)
    infos: dict[str, Any] = fs.glob(name, detail=True) if has_wildcard else {name: fs.info(name)}
    whole = not has_wildcard and infos[name]["type"] == "directory"
    fixed = _FIXED_URL.match(path.replace("?", "*"))
    root = path.rstrip("/") if whole else (fixed[0] if fixed else path).rpartition("/")[0]
    for folder in [folder for folder, info in infos.items() if info["type"] == "directory"]:
        del infos[folder]
        if kind == "dataset":
            members = [f"{folder}/{member}" for member in dataset.list_data_files(fs.unstrip_protocol(folder))]
            infos |= {member: fs.info(member) for member in members}
        elif kind in _SUFFIXES:
            below = fs.find(folder, detail=True)
            infos |= {member: info for member, info in below.items() if member.lower().endswith(_SUFFIXES[kind])}
    for member, info in infos.items():
        mark = (
            info.get("ETag") or info.get("etag") or info.get("generation") or info.get("md5Hash") or info.get("mtime")
        )
        yield Found(
            location=f"{path.partition('://')[0]}://{member.lstrip('/')}",
            root=root,
            n_bytes=int(info["size"]),
            version=f"{info['size']}:{mark or fs.ukey(member)}",
        )


def _http(kind: str, path: str) -> Iterator[Found]:
    fixed = _FIXED_URL.match(path)
    assert fixed is not None
    if path.endswith("/") or "**" in path:
        raise RecipeError(
            f"{redact(path)!r}: of web servers, files and globs of one folder can be read, as in …/*.html"
        )
    folder = path.partition("?")[0].rpartition("/")[0]
    if fixed[0] == path:
        yield Found(location=path, root=folder)
        return
    try:
        fs, _ = fsspec.url_to_fs(path)
        names = fs.glob(path)
        is_there = bool(names) or fs.exists(folder + "/")
    except Exception as error:
        raise SourceError(
            f"{redact(path)} cannot be listed: {type(error).__name__}: {redact(str(error))}; name the files instead"
        ) from error
    if not is_there:
        raise RecipeError(f"{redact(path)!r}: the server has no folder {redact(folder)}/")
    for name in names:
        yield Found(location=name, root=fixed[0].rpartition("/")[0])
