"""From a recipe to work: sources -> files -> units, the same every time.

A unit is the smallest slice of a source that can be read alone; it is what workers take and what is committed
(DESIGN §3). Its name is a function of its source, file and byte range. Files come in the order of the recipe's
sources, then of their names; units follow in the order of their bytes. That order ranks equal copies.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from corpusmill.pipeline import sources
from corpusmill.pipeline.download.client import redact
from corpusmill.pipeline.download.remote import RemoteFile
from corpusmill.pipeline.expand import Found, expand, is_http
from corpusmill.pipeline.sources.record import Slice
from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.recipe import Limits, Recipe
from corpusmill.schemas.source import CommonCrawlSource, Source, WikipediaSource

__all__ = ["Resolve", "SourceFile", "Unit", "list_files", "list_units"]

Resolve = Callable[[CommonCrawlSource | WikipediaSource], list[RemoteFile]]
"""From a source that names a crawl or a wiki to its files (see `download.listing`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One input file, or several small ones that are read as one.

    Attributes:
        source: name of its source.
        kind: key of `sources.KINDS`.
        file_path: name relative to the root of the source; stands in tables and ids.
        location: local path or URL; with `members` the folder that they lie in.
        limits: of single records.
        columns: mapping of columns.
        options: what else the source says to its reader.
        n_bytes: size; None where it is not known before the download.
        version: changes when the file does; for downloads it is what was asked for.
        members: the small files, (path below `location`, bytes).
        remote: what to download; None for files that are read in place.
    """

    source: str
    kind: str
    file_path: str
    location: str
    limits: Limits
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    n_bytes: int | None = None
    version: str | None = None
    members: tuple[tuple[str, int], ...] = ()
    remote: RemoteFile | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is one unit whatever its size: its documents are files, not parts of one."""
        return bool(self.members) or self.options.get("each") == "file"

    @property
    def name(self) -> str:
        """Name of its fetch unit."""
        return _name(self.source, self.file_path, *(name for name, _ in self.members))

    @property
    def raw_name(self) -> str:
        """Where its download lies below the run folder."""
        return f"raw/{self.source}/{self.file_path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A slice of a file that is read, committed and counted as one.

    Attributes:
        name: file-name safe, unique in the run.
        piece: what to read.
    """

    name: str
    piece: Slice

    @property
    def n_bytes(self) -> int:
        """Size of the slice in its compressed form."""
        return self.piece.end - self.piece.start


def _name(*parts: str | int) -> str:
    source, file_path = str(parts[0]), str(parts[1])
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(file_path).name.split(".")[0])[:40]
    return f"{source}-{stem}-{xxhash.xxh3_64_hexdigest(chr(0).join(map(str, parts)).encode())[:10]}"


def list_files(recipe: Recipe, resolve: Resolve) -> list[SourceFile]:
    """The input files of a recipe, in order.

    Args:
        recipe: what to read.
        resolve: finds the files of sources that name a crawl or a wiki.

    Raises:
        RecipeError: a path that matches nothing, two files of one relative name in a source, or a name that leaves
            the root of its source.
        SourceError: a server or store that cannot be listed.
    """
    files: list[SourceFile] = []
    for number, source in enumerate(recipe.sources):
        found: dict[str, SourceFile] = {}
        for file in _files_of(number, source, recipe.limits, resolve):
            other = found.setdefault(file.file_path, file)
            if other.location != file.location:
                raise RecipeError(
                    f"sources.{number}.paths: {other.location} and {file.location} are both called "
                    f"{file.file_path!r} relative to their roots; ids hold that name, so set `root:` to a "
                    "folder above both"
                )
        in_order = [found[name] for name in sorted(found)]
        files += _bundle(in_order, recipe.unit_bytes) if _is_small(source) else in_order
    return files


def _files_of(number: int, source: Source, limits: Limits, resolve: Resolve) -> Iterator[SourceFile]:
    if isinstance(source, CommonCrawlSource) or (isinstance(source, WikipediaSource) and source.wiki is not None):
        try:
            remotes = resolve(source)
        except RecipeError as error:
            raise RecipeError(f"sources.{number}.{error}") from error
        for remote in remotes:
            yield _remote_file(source, limits, remote, [remote.path, remote.n_bytes, remote.sha1, remote.spans])
        return
    for i, path in enumerate(source.paths or ()):
        where = f"sources.{number}.paths.{i}"
        try:
            found = expand(source.kind, path)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error
        if not found:
            raise RecipeError(f"{where}: {_explain(path)}")
        for file in found:
            if sources.is_index(source.kind, file.location):
                continue
            yield _file(where, source, limits, file)


def _explain(path: str) -> str:
    """Why a path means no file."""
    if "://" in path:
        return f"{redact(path)!r} matches no file"
    what = "is a folder: write a glob such as folder/*" if Path(path).is_dir() else "matches no file"
    return f"{path!r} {what}; relative paths start at the recipe's folder, those of --set at the working directory"


def _file(where: str, source: Source, limits: Limits, file: Found) -> SourceFile:
    root = (getattr(source, "root", None) or file.root).rstrip("/")
    if not file.location.startswith(root + "/"):
        raise RecipeError(f"{where}: {file.location} does not lie below root {root!r}")
    file_path = file.location[len(root) + 1 :]
    if ".." in PurePosixPath(file_path).parts:
        raise RecipeError(f"{where}: {file.location} leaves its folder by '..': write the path that is meant")
    if is_http(file.location):
        plain = file.location.partition("?")[0]  # what follows may be a signature: no name, and not to be published
        file_path = file_path.partition("?")[0]
        index = sources.index_of(source.kind, plain)
        companion = RemoteFile(path=sources.index_of(source.kind, file_path) or "", urls=(index,)) if index else None
        remote = RemoteFile(path=file_path, urls=(file.location,), index=companion)
        return _remote_file(source, limits, remote, plain)
    return SourceFile(
        source=source.name,
        kind=source.kind,
        file_path=file_path,
        location=file.location,
        columns=_columns(source),
        options=_options(source),
        limits=limits,
        n_bytes=file.n_bytes,
        version=file.version,
    )


def _remote_file(source: Source, limits: Limits, remote: RemoteFile, identity: Any) -> SourceFile:
    return SourceFile(
        source=source.name,
        kind=source.what if isinstance(source, CommonCrawlSource) else source.kind,
        file_path=remote.path,
        location=remote.urls[0],
        columns=_columns(source),
        options=_options(source),
        limits=limits,
        n_bytes=sum(length for _, length in remote.spans) if remote.spans else remote.n_bytes,
        version=str(identity),
        remote=remote,
    )


def _columns(source: Source) -> dict[str, str]:
    return {str(field): key for field, key in getattr(source, "columns", {}).items()}


def _options(source: Source) -> dict[str, Any]:
    names = {"wikipedia": ("namespaces", "revisions", "redirects"), "text": ("each",)}.get(source.kind, ())
    return {name: getattr(source, name) for name in names}


def _is_small(source: Source) -> bool:
    """Whether a source has a document a file, of which many make a unit."""
    return source.kind == "html" or (source.kind == "text" and source.each == "file")


def _bundle(files: Sequence[SourceFile], target_bytes: int) -> Iterator[SourceFile]:
    """Files of a folder that follow each other, as one of at most `target_bytes` if more than one fits."""
    bundle: list[SourceFile] = []
    for file in files:
        if file.remote is not None or file.file_path.lower().endswith(".zip"):
            yield from _as_one(bundle)
            bundle = []
            yield file
            continue
        total = sum(other.n_bytes or 0 for other in bundle) + (file.n_bytes or 0)
        if bundle and (total > target_bytes or _folder(file) != _folder(bundle[0])):
            yield from _as_one(bundle)
            bundle = []
        bundle.append(file)
    yield from _as_one(bundle)


def _folder(file: SourceFile) -> str:
    return file.location.removesuffix(file.file_path).rstrip("/")


def _as_one(bundle: Sequence[SourceFile]) -> Iterator[SourceFile]:
    if bundle:
        first = bundle[0]
        yield SourceFile(
            source=first.source,
            kind=first.kind,
            file_path=first.file_path,
            location=_folder(first),
            options=first.options,
            limits=first.limits,
            n_bytes=sum(file.n_bytes or 0 for file in bundle),
            version=str([file.version for file in bundle]),
            members=tuple((file.file_path, file.n_bytes or 0) for file in bundle),
        )


def list_units(file: SourceFile, location: str, ranges: Sequence[tuple[int, int]]) -> list[Unit]:
    """The units of one file, which opens at `location`, from its byte ranges."""
    return [
        Unit(
            name=_name(file.source, file.file_path, *(name for name, _ in file.members), start, end),
            piece=Slice(
                source=file.source,
                kind=file.kind,
                file_path=file.file_path,
                location=location,
                start=start,
                end=end,
                columns=file.columns,
                options=file.options,
                members=file.members,
                spans=file.remote.spans if file.remote else (),
                max_bytes=file.limits.record_bytes,
                max_ratio=file.limits.ratio,
            ),
        )
        for start, end in ranges
    ]
