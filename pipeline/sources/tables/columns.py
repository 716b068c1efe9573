"""From the fields of a line or row to a record: what all inputs with named fields share."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from corpusmill.pipeline.sources.record import Record, Slice, is_decode_error, milliseconds, parse_date
from corpusmill.schemas.errors import SourceError

__all__ = ["FIELDS", "TABLE_ERRORS", "batch_rows", "check_names", "find_columns", "raise_failure", "row_record"]

FIELDS: Final = ("id", "text", "title", "url", "date", "language")
"""Fields that a line or row may have. All but the id are read from the key or column of their own name by default."""

TABLE_ERRORS: Final = (pa.ArrowException, UnicodeDecodeError, MemoryError, OSError)
"""What pyarrow raises where data is damaged, a length that no memory can hold included; see `raise_failure`."""

_DATE: Final = pa.timestamp("ms", tz="UTC")
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_SECOND: Final = int(datetime.min.replace(tzinfo=UTC).timestamp())
_LAST_SECOND: Final = int(datetime.max.replace(tzinfo=UTC).timestamp())
_WANTED: Final = {"id": "strings or whole numbers", "date": "strings, dates or timestamps"}


def row_record(
    piece: Slice, values: Mapping[str, Any], *, place: str, offset: int, length: int | None, record_index: int = 0
) -> Record:
    """The record of a row.

    Args:
        piece: the slice that the row is in.
        values: field to value, for the fields that the row has: strings, or bytes in UTF-8; an id may be a whole
            number, a date a datetime with a zone. Other values count as none, but for the text.
        place: where the row is; its key, unless it has an id.
        offset: see `Record`.
        length: see `Record`.
        record_index: see `Record`.

    Returns:
        The record; "no_text" where the text is missing or blank, "damaged_row" where it is not a string or any string
        is not UTF-8, "too_large" where the text has more than `piece.max_bytes` bytes.
    """
    record = Record(key=place, offset=offset, length=length, record_index=record_index)
    try:
        strings = {field: _string(values.get(field)) for field in FIELDS}
    except UnicodeDecodeError:
        strings = {}
    if not strings or (strings["text"] is None and values.get("text") is not None):
        record.key, record.reason = f"{place}:damaged", "damaged_row"
        return record
    record.key = _whole_number(values.get("id")) or strings["id"] or place
    record.url, record.title, record.language = strings["url"], strings["title"], strings["language"]
    date = values.get("date")
    record.date = milliseconds(date) if isinstance(date, datetime) else parse_date(strings["date"])
    text = strings["text"] or ""
    if not text.strip():
        record.reason = "no_text"
    elif len(content := text.encode()) > piece.max_bytes:
        record.reason = "too_large"
    else:
        record.content, record.media_type, record.charset = content, "text/plain", "utf-8"
    return record


def _string(value: Any) -> str | None:
    r"""A string that has an encoding: JSON may hold half a surrogate pair ("\ud83d"), which becomes U+FFFD."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str) or value.isascii():
        return value if isinstance(value, str) else None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole_number(value: Any) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def check_names(schema: pa.Schema) -> None:
    """Decode the names of all columns and of what they consist of.

    Raises:
        UnicodeDecodeError: the schema is damaged.
    """
    for column in schema:
        f"{column.name} {column.type}".encode()


def find_columns(schema: pa.Schema, piece: Slice) -> dict[str, str]:
    """Which column of a table each field is read from: the one that the recipe names, else the one of its name.

    Returns:
        Field to column; without the fields, other than the text, that the table has no fitting column for.

    Raises:
        SourceError: a column that the recipe names, or the text's, is missing, is there twice, or holds something else.
    """
    found: dict[str, str] = {}
    for field in FIELDS:
        name = piece.columns.get(field, field)
        problem = _problem(schema, field, name)
        if problem is None and (field != "id" or field in piece.columns):
            found[field] = name
        elif problem is not None and (field == "text" or field in piece.columns):
            names = ", ".join(f"{column.name} ({column.type})" for column in schema)
            raise SourceError(
                f"{piece.location}: {problem}; its columns are {names or 'none'}. Name the one that holds the {field} "
                f"in the recipe, in source {piece.source}: columns: {{{field}: COLUMN}}"
            )
    return found


def _problem(schema: pa.Schema, field: str, name: str) -> str | None:
    """Why a field cannot be read from a column."""
    n_found = len(schema.get_all_field_indices(name))
    if n_found != 1:
        return f"there is no column {name!r}" if n_found == 0 else f"there are {n_found} columns {name!r}"
    kind = schema.field(name).type
    value = kind.value_type if types.is_dictionary(kind) else kind
    is_fit = types.is_null(value) or _as_binary(value) is not None
    is_fit = is_fit or (field == "id" and types.is_integer(value))
    is_fit = is_fit or (field == "date" and (types.is_date(value) or types.is_timestamp(value)))
    if is_fit:
        return None
    return f"column {name!r} holds {kind}, but the {field} must be {_WANTED.get(field, 'strings')}"


def _as_binary(kind: pa.DataType) -> pa.DataType | None:
    """The type of the bytes of strings; None for other types."""
    if types.is_string(kind) or types.is_binary(kind):
        return pa.binary()
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return pa.large_binary()
    return pa.binary_view() if types.is_string_view(kind) or types.is_binary_view(kind) else None


def batch_rows(batch: pa.RecordBatch, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of a batch as `row_record` takes them, made one at a time.

    Args:
        batch: as read from a file, not checked.
        columns: from `find_columns`.

    Raises:
        pa.ArrowInvalid: at once, if the batch is damaged.
    """
    arrays = {}
    for field, name in columns.items():
        column = batch.column(name)
        column.validate()  # that buffers are as long as they must be, before anything computes with them
        arrays[field] = _readable(column)
        arrays[field].validate(full=True)
    return ({field: array[i].as_py() for field, array in arrays.items()} for i in range(batch.num_rows))


def raise_failure(error: Exception) -> None:
    """Of `TABLE_ERRORS`, raise again what is not about the data: a disk or a network that failed."""
    if isinstance(error, OSError) and not is_decode_error(error):
        raise error


def _readable(array: pa.Array) -> pa.Array:
    """Strings as bytes, as Arrow does not check their encoding; dates as milliseconds, null where no year has them."""
    kind = array.type
    if types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(array.indices, _readable(array.dictionary), safe=False)
    if (binary := _as_binary(kind)) is not None:
        return array.cast(binary)
    if types.is_date(kind):
        return _readable(array.cast(pa.timestamp("s"), safe=False))
    if not types.is_timestamp(kind):
        return array
    seconds = pc.divide(array.cast(pa.int64()), _PER_SECOND[kind.unit])
    has_year = pc.and_(pc.greater(seconds, _FIRST_SECOND), pc.less(seconds, _LAST_SECOND))
    return pc.if_else(has_year, array, pa.scalar(None, kind)).cast(_DATE, safe=False)
