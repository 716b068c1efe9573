"""Dataset folders: what `datasets.save_to_disk` wrote, and what `datasets.load_dataset` reads from a local folder.

A folder is a list of files, each of which is read by its format. `datasets` itself is not needed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import fsspec

from corpusmill.pipeline.sources.files.text import line_records
from corpusmill.pipeline.sources.lines import line_ranges
from corpusmill.pipeline.sources.record import Record, Slice, open_input
from corpusmill.pipeline.sources.tables import jsonl, parquet
from corpusmill.pipeline.sources.tables.arrow_files import arrow_records
from corpusmill.pipeline.sources.tables.csv_files import csv_records
from corpusmill.schemas.errors import SourceError

__all__ = ["list_data_files", "ranges", "records"]

_FORMATS: Final = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
}
_NO_DATA: Final = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def list_data_files(folder: str) -> list[str]:
    """The files of a dataset folder that hold its rows.

    A folder that `save_to_disk` wrote says so itself, in a state.json for each split. In other folders it is all files
    of one format, the one that most files have, but for those that `load_dataset` ignores too: hidden ones (`.name`,
    `__name`) and descriptions.

    Args:
        folder: local path or fsspec URL.

    Returns:
        Names relative to the folder, sorted.

    Raises:
        SourceError: there is no such file, or a state.json that is broken or names a file that is not there.
        OSError: the disk or the network failed.
    """
    names = sorted(_names_below(folder))
    states = [name for name in names if name.rpartition("/")[2] == "state.json"]
    if states:
        return sorted(name for state in states for name in _named_by(folder, state, set(names)))
    by_format: dict[str, list[str]] = {}
    for name in names:
        form = _format(name)
        if form is not None and name.rpartition("/")[2] not in _NO_DATA:
            by_format.setdefault(form, []).append(name)
    if not by_format:
        raise SourceError(
            f"{folder} holds no data files: a dataset has files named {', '.join(_FORMATS)} (those of text also with "
            ".gz or .zst behind), or was written by save_to_disk; for other files use another kind of source"
        )
    order = list(dict.fromkeys(_FORMATS.values()))
    return max(by_format.items(), key=lambda item: (len(item[1]), -order.index(item[0])))[1]


def _names_below(folder: str) -> Iterator[str]:
    if "://" not in folder:
        found: Iterable[str] = (str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
    else:
        fs, root = fsspec.url_to_fs(folder)
        found = (name[len(root.rstrip("/")) + 1 :] for name in fs.find(root))
    for name in found:
        if not any(part.startswith((".", "__")) for part in name.split("/")):
            yield name


def _named_by(folder: str, state: str, names: set[str]) -> list[str]:
    """The files that a state.json names, which are some of `names`."""
    with open_input(f"{folder}/{state}") as file:
        content = file.read()
    try:
        found = [
            f"{state.removesuffix('state.json')}{entry['filename']}" for entry in json.loads(content)["_data_files"]
        ]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise SourceError(f"{folder}/{state} does not list data files as save_to_disk does: {error!r}") from error
    for name in found:
        if name not in names:
            raise SourceError(f"{folder}/{state} names {name}, which is not there: copy the folder again")
    return found


def _format(name: str) -> str | None:
    return _FORMATS.get(Path(_plain(name)).suffix)


def _plain(name: str) -> str:
    """A name in lower case, without the suffix that says how the file is packed."""
    name = name.lower()
    plain = name.removesuffix(".gz").removesuffix(".zst")
    return name if plain.endswith((".parquet", ".arrow")) else plain


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges as the reader of the file's format cuts them; Arrow and CSV files are one range.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    match _format(location):
        case "parquet":
            return parquet.ranges(location, index=index, n_bytes=n_bytes, target_bytes=target_bytes)
        case "json":
            return jsonl.ranges(location, index=index, n_bytes=n_bytes, target_bytes=target_bytes)
        case "text":
            return line_ranges(location, n_bytes, target_bytes)
    return [(0, n_bytes)]


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The rows of a range of one file of a dataset; of a text file the lines that are not blank.

    `piece.columns` maps fields of the document to columns as for Parquet files.

    Args:
        piece: a range that `ranges` gave.
        counts: unused: all rows are records.

    Yields:
        What the reader of the file's format yields.

    Raises:
        SourceError: there is no such file, its format is not known, or it has no column of text.
        OSError: the disk or the network failed.
    """
    match _format(piece.file_path):
        case "parquet":
            yield from parquet.records(piece, counts)
        case "json":
            yield from jsonl.records(piece, counts)
        case "csv":
            yield from csv_records(piece, "\t" if _plain(piece.file_path).endswith(".tsv") else ",")
        case "text":
            yield from line_records(piece)
        case "arrow":
            yield from arrow_records(piece)
        case _:
            raise SourceError(f"{piece.location}: files of a dataset are named {', '.join(_FORMATS)}")
