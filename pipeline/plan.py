"""From a recipe to work: sources -> files -> units, the same every time.

A unit is the smallest slice of a source that can be read alone; it is what workers take and what is committed
(DESIGN §3). Its name is a function of its source, file and byte range. Files come in the order of the recipe's
sources, then of their names; units follow in the order of their bytes. That order ranks equal copies.
"""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from corpusmill.pipeline import sources
from corpusmill.pipeline.sources.record import Slice
from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.recipe import Recipe, Source

__all__ = ["SourceFile", "Unit", "list_files", "list_units"]

_ESCAPED = re.compile(r"\[([\[*?])\]")  # as glob.escape writes a character that is no wildcard
_FIXED = re.compile(rf"(?:{_ESCAPED.pattern}|[^*?\[])*")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One input file.

    Attributes:
        source: name of its source.
        kind: kind of its source.
        file_path: name relative to the root of the source; stands in tables and ids.
        location: local path, or URL to download from.
        columns: jsonl column mapping.
        n_bytes: size; None for a URL.
    """

    source: str
    kind: str
    file_path: str
    location: str
    columns: Mapping[str, str] = field(default_factory=dict)
    n_bytes: int | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it must be downloaded."""
        return "://" in self.location

    @property
    def name(self) -> str:
        """Name of its fetch unit."""
        return _name(self.source, self.file_path)

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


def list_files(recipe: Recipe) -> list[SourceFile]:
    """The input files of a recipe, in order.

    Raises:
        RecipeError: a path that matches nothing, or two files of one relative name in a source.
    """
    files: list[SourceFile] = []
    for number, source in enumerate(recipe.sources):
        found: dict[str, SourceFile] = {}
        for i, path in enumerate(source.paths):
            before = len(found)
            for file in _expand(source, path):
                other = found.setdefault(file.file_path, file)
                if other.location != file.location:
                    raise RecipeError(
                        f"sources.{number}.paths: {other.location} and {file.location} are both called "
                        f"{file.file_path!r} relative to their roots; ids hold that name, so set `root:` to a "
                        "folder above both"
                    )
            if len(found) == before and not any(True for _ in _expand(source, path)):
                what = "is a folder: write a glob such as folder/*" if Path(path).is_dir() else "matches no file"
                raise RecipeError(
                    f"sources.{number}.paths.{i}: {path!r} {what}; relative paths start at the recipe's "
                    "folder, those of --set at the working directory"
                )
        files += [found[name] for name in sorted(found)]
    return files


def _expand(source: Source, path: str) -> Iterator[SourceFile]:
    remote = "://" in path
    if remote and not path.startswith(("http://", "https://")):
        raise RecipeError(f"source {source.name}: {path!r}: local paths and http(s) URLs can be read")
    if not remote and not Path(path).is_file():
        start = _FIXED.match(path)
        fixed = _ESCAPED.sub(r"\1", start[0] if start else "")
        found = [name for name in sorted(glob.glob(path, recursive=True)) if Path(name).is_file()]  # noqa: PTH207
    else:
        fixed, found = path, [path]
    root = source.root or fixed.rpartition("/")[0]
    for location in found:
        if sources.is_index(source.kind, location):
            continue
        if not location.startswith(root.rstrip("/") + "/"):
            raise RecipeError(f"source {source.name}: {location} does not lie below root {root!r}")
        yield SourceFile(
            source=source.name,
            kind=source.kind,
            file_path=location[len(root.rstrip("/")) + 1 :],
            location=location,
            columns={str(field): key for field, key in source.columns.items()},
            n_bytes=None if remote else Path(location).stat().st_size,
        )


def list_units(file: SourceFile, location: str, ranges: Sequence[tuple[int, int]]) -> list[Unit]:
    """The units of one file, which opens at `location`, from its byte ranges."""
    return [
        Unit(
            name=_name(file.source, file.file_path, start, end),
            piece=Slice(
                source=file.source,
                kind=file.kind,
                file_path=file.file_path,
                location=location,
                start=start,
                end=end,
                columns=file.columns,
            ),
        )
        for start, end in ranges
    ]
