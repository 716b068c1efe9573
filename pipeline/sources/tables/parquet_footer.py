"""Where the row groups of a Parquet file lie (parquet.thrift, in Thrift's compact protocol).

pyarrow tells it too, but ends the whole process when it is asked about a column whose description is damaged.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

__all__ = ["Chunk", "FooterError", "RowGroup", "read_footer"]

_MAGIC: Final = b"PAR1"
_TAIL: Final = 8
_KEEP: Final[Mapping[int, Any]] = {}

# Numbers of fields. A mapping names the fields of a struct, or of the structs of a list, that are kept.
_ROW_GROUPS, _COLUMNS, _N_ROWS, _META_DATA = 4, 1, 3, 3
_PATH, _UNPACKED, _PACKED, _DATA_PAGE, _DICTIONARY_PAGE = 3, 6, 7, 9, 11
_CHUNK: Final = {_META_DATA: dict.fromkeys((_PATH, _UNPACKED, _PACKED, _DATA_PAGE, _DICTIONARY_PAGE), _KEEP)}
_FOOTER: Final = {_ROW_GROUPS: {_COLUMNS: _CHUNK, _N_ROWS: _KEEP}}


class FooterError(Exception):
    """A footer that is not there, or damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A column of a row group.

    Attributes:
        column: its name; for a part of a nested column the names of all levels, with dots between.
        start: first byte, of its dictionary if it has one.
        n_packed: its stored bytes.
        n_bytes: its encoded bytes before compression.
    """

    column: str
    start: int
    n_packed: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroup:
    """A row group.

    Attributes:
        index: its number in the footer.
        start: first byte of its columns.
        end: byte after its columns.
        first_row: number of its first row in the file.
        n_rows: how many rows it has.
        chunks: its columns.
        overlaps: whether it runs into the next one, as in files made to do harm.
    """

    index: int
    start: int
    end: int
    first_row: int
    n_rows: int
    chunks: tuple[Chunk, ...]
    overlaps: bool


def read_footer(file: IO[bytes]) -> list[RowGroup]:
    """The row groups of a file, in the order of their bytes; each begins in the file, whatever the footer says.

    Raises:
        FooterError: there is no footer, or it cannot be read.
        OSError: the disk or the network failed.
    """
    n_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, n_bytes - _TAIL))
    tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if not tail.endswith(_MAGIC) or length > n_bytes - _TAIL:
        raise FooterError
    file.seek(n_bytes - _TAIL - length)
    try:
        described = _Compact(file.read(length)).struct(_FOOTER)[_ROW_GROUPS]
        found = []
        first_row = 0
        for index, group in enumerate(described):
            chunks = tuple(_chunk(column[_META_DATA]) for column in group[_COLUMNS])
            start = min(max(0, min(chunk.start for chunk in chunks)), n_bytes - 1)
            found.append((start, index, first_row, chunks))
            first_row += max(0, group[_N_ROWS])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FooterError from error
    first_rows = [first_row for _, _, first_row, _ in found] + [first_row]
    found.sort(key=lambda group: group[:2])
    groups = []
    limits = [*(start for start, *_ in found[1:]), n_bytes]
    for (start, index, first, chunks), limit in zip(found, limits, strict=False):
        end = max(chunk.start + chunk.n_packed for chunk in chunks)
        groups.append(
            RowGroup(
                index=index,
                start=start,
                end=end,
                first_row=first,
                n_rows=first_rows[index + 1] - first,
                chunks=chunks,
                overlaps=end > limit,
            )
        )
    return groups


def _chunk(described: Mapping[int, Any]) -> Chunk:
    start = described[_DATA_PAGE]
    dictionary = described.get(_DICTIONARY_PAGE, 0)  # 0 is how some writers say that there is none
    return Chunk(
        column=".".join(name.decode() for name in described[_PATH]),
        start=dictionary if 0 < dictionary < start else start,
        n_packed=max(0, described[_PACKED]),
        n_bytes=max(0, described[_UNPACKED]),
    )


class _Compact:
    """Decodes Thrift's compact protocol (thrift-compact-protocol.md).

    All of it raises IndexError where the data ends, and ValueError for what the protocol does not know.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def struct(self, wanted: Mapping[int, Any]) -> dict[int, Any]:
        """The wanted fields of a struct by their numbers; the others are skipped."""
        found: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._integer()
            kind = header & 15
            value = kind == 1 if kind in (1, 2) else self._value(kind, wanted.get(number))
            if number in wanted:
                found[number] = value
        return found

    def _value(self, kind: int, wanted: Mapping[int, Any] | None) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list(wanted)
            case 11:
                return self._map()
            case 12:
                return self.struct(wanted or {})
            case 13:
                return self._bytes(16)
        raise ValueError(kind)

    def _list(self, wanted: Mapping[int, Any] | None) -> list[Any]:
        header = self._byte()
        size = header >> 4 if header >> 4 < 15 else self._varint()
        found = []
        for _ in range(size):
            value = self._value(header & 15, wanted)
            if wanted is not None:
                found.append(value)
        return found

    def _map(self) -> None:
        size = self._varint()
        kinds = self._byte() if size else 0
        for _ in range(size):
            self._value(kinds >> 4, None)
            self._value(kinds & 15, None)

    def _byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1]

    def _bytes(self, n: int) -> bytes:
        self._position += n
        if self._position > len(self._data):
            raise IndexError
        return self._data[self._position - n : self._position]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
