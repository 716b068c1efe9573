"""What must be left of a WARC file of responses after one change to its bytes, and a writer of such files.

The oracle knows the records and the change, and nothing of how files are read:

- a record is lost only if the change touched it, or if it is the next one after those that it touched;
- what is found is one of the records, whole and once (or once more, if the change copied it whole), unless the change
  runs through it; in a packed file not even then, as its checksum tells. Where of a record that holds records not one
  line of its head is left, nobody can tell, and they may be found;
- records and damaged stretches lie one behind the other and leave out nothing but blank lines.
"""

import gzip
import json
import re
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_TRACES = re.compile(rb"^(?:WARC[-/]|HTTP/)", re.MULTILINE)

DATE = "2026-11-24T08:00:00Z"


def warc(
    block: bytes,
    *,
    kind: str = "response",
    url: str | None = "http://例子.example/页",
    content_type: str = "application/http; msgtype=response",
    length: int | None = None,
    version: str = "1.0",
    newline: str = "\r\n",
    **more: str,
) -> bytes:
    """A record; `length` lies about the size of the block, `more` are fields with _ for -."""
    headers = {
        "WARC-Type": kind,
        "WARC-Record-ID": "<urn:uuid:00000000-0000-0000-0000-000000000000>",
        "WARC-Date": DATE,
        "Content-Type": content_type,
        "Content-Length": str(len(block) if length is None else length),
    }
    headers |= {} if url is None else {"WARC-Target-URI": url}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"WARC/{version}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return newline.join(lines).encode() + block + 2 * newline.encode()


def http(
    body: bytes = b"<html><p>...</p></html>",
    *,
    status: str = "200 OK",
    content_type: str | None = "text/html; charset=UTF-8",
    more: str = "",
) -> bytes:
    """An HTTP response; `more` are header lines."""
    media = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    return f"HTTP/1.1 {status}\r\n{media}{more}\r\n".encode() + body


def member(*records: bytes, level: int = 6) -> bytes:
    """A gzip member."""
    return gzip.compress(b"".join(records), level, mtime=0)


@dataclass(frozen=True)
class Change:
    """One change to a file.

    Attributes:
        kind: flip the bits `data[0]` of the byte at `a`; cut a to b; insert `data` at a; duplicate a to b, behind b;
            swap a to b with b to c.
    """

    kind: Literal["flip", "cut", "insert", "duplicate", "swap"]
    a: int
    b: int = 0
    c: int = 0
    data: bytes = b""

    def apply(self, whole: bytes) -> bytes:
        """The changed file."""
        a, b, c = self.a, self.b, self.c
        match self.kind:
            case "flip":
                return whole[:a] + bytes([whole[a] ^ self.data[0]]) + whole[a + 1 :]
            case "cut":
                return whole[:a] + whole[b:]
            case "insert":
                return whole[:a] + self.data + whole[a:]
            case "duplicate":
                return whole[:b] + whole[a:b] + whole[b:]
            case "swap":
                return whole[:a] + whole[b:c] + whole[a:b] + whole[c:]

    def touches(self, start: int, end: int) -> bool:
        """Whether it changes anything of what was at `start` to `end`."""
        match self.kind:
            case "flip":
                return start <= self.a < end
            case "cut":
                return start < self.b and self.a < end
            case "insert":
                return start < self.a < end
            case "duplicate":
                return start < self.b < end
            case "swap":
                return start < self.c and self.a < end

    def is_at(self, start: int, end: int) -> bool:
        """Whether what is now at `start` to `end` is not what it was, or is followed by something else than it was."""
        match self.kind:
            case "flip":
                return start <= self.a < end
            case "cut":
                return start < self.a <= end
            case "insert":
                return start < self.a + len(self.data) and self.a <= end
            case "duplicate":
                return start < self.b <= end
            case "swap":
                return start < self.c and self.a < end
        raise ValueError(self.kind)


@dataclass(frozen=True)
class Case:
    """A file of responses and a change to it.

    Attributes:
        records: as stored, one behind the other.
        pages: URL and content of each.
        packed: whether each is a gzip member.
        change: to the file.
    """

    records: Sequence[bytes]
    pages: Sequence[tuple[str, bytes]]
    packed: bool
    change: Change

    @property
    def healthy(self) -> bytes:
        """The file before the change."""
        return b"".join(self.records)

    @property
    def changed(self) -> bytes:
        """The file after the change."""
        return self.change.apply(self.healthy)

    def check(self, rows: Sequence[Any]) -> None:
        """Compare with what a reader found in the changed file.

        Args:
            rows: with `offset`, `length`, `url`, `content` and `reason`; None in `reason` for records.

        Raises:
            AssertionError: it is not what must be found.
        """
        starts = [sum(map(len, self.records[:i])) for i in range(len(self.records) + 1)]
        spans = list(zip(starts, starts[1:], strict=False))
        touched = [i for i, span in enumerate(spans) if self.change.touches(*span)]
        later = [i for i, start in enumerate(starts) if start >= self.change.a]
        spared = {*touched, max(touched) + 1} if touched else set(later[:1])
        good = [row for row in rows if row.reason is None]
        found = Counter((row.url, row.content) for row in good)

        for i, page in enumerate(self.pages):
            assert i in spared or found[page], f"record {i} is lost"
        copies = [self.changed.count(record.rstrip(b"\r\n")) for record in self.records]
        allowed = {page: max(1, n) for page, n in zip(self.pages, copies, strict=True)}
        if self.packed and self.changed.startswith(b"WARC/"):
            return  # bytes that were stored in a member as they are; it is a plain file now
        rest, doubtful = self._doubtful(spans, [spans[i] for i in touched]), False
        end = 0
        for row in rows:
            span, page = (row.offset, row.offset + row.length), (row.url, row.content)
            doubtful = doubtful or (row.offset > end and self.change.is_at(end, row.offset))
            end = span[1]
            if row.reason is not None:
                doubtful = not _TRACES.search(self.changed[slice(*span)])
                continue
            if not self.packed and page not in allowed and (doubtful or span[0] in rest):
                continue
            if not self.packed and self.change.is_at(*span):
                doubtful = True
                continue
            assert page in allowed, f"spurious record at {row.offset}"
            doubtful = False
            allowed[page] -= 1
            assert allowed[page] >= 0, f"the same record twice, at {row.offset}"
        self._check_places(rows)

    def _doubtful(self, spans: Sequence[tuple[int, int]], touched: Sequence[tuple[int, int]]) -> range:
        """Where records may be found that a record held.

        That is in a record of which the change broke both the end and the beginning of what comes next, or its own
        beginning: nobody can tell then. A swap changes three places, so it may do that to all records that it touches.
        """
        change = self.change
        took_beginning = any(change.a < start + len("WARC/") and start < change.b for start, _ in touched)
        is_broken = {
            "swap": True,
            "cut": took_beginning,
            "duplicate": all(change.a != start for start, _ in spans),
        }.get(change.kind, False)
        return range(touched[0][0], touched[-1][1]) if is_broken and touched and not self.packed else range(0)

    def _check_places(self, rows: Sequence[Any]) -> None:
        at = 0
        for row in rows:
            assert row.offset >= at, f"{row.offset} was read before"
            assert row.length, f"no length at {row.offset}"
            self._check_gap(at, row.offset)
            at = row.offset + row.length
        assert at <= len(self.changed), "a row ends behind the file"
        self._check_gap(at, len(self.changed))

    def _check_gap(self, start: int, end: int) -> None:
        is_empty = not self.changed[start:end].strip(b" \t\r\n")
        is_of_another_type = not self.packed and self.change.is_at(start, end)
        assert is_empty or is_of_another_type, f"nothing is said of {start} to {end}"

    def to_json(self) -> str:
        """One line, for the corpus."""
        change = self.change
        return json.dumps(
            {
                "packed": self.packed,
                "change": [change.kind, change.a, change.b, change.c, b64encode(change.data).decode()],
                "records": [b64encode(record).decode() for record in self.records],
                "pages": [[url, b64encode(content).decode()] for url, content in self.pages],
            }
        )

    @staticmethod
    def from_json(line: str) -> "Case":
        """The inverse of `to_json`."""
        case = json.loads(line)
        kind, a, b, c, data = case["change"]
        return Case(
            records=[b64decode(record) for record in case["records"]],
            pages=[(url, b64decode(content)) for url, content in case["pages"]],
            packed=case["packed"],
            change=Change(kind, a, b, c, b64decode(data)),
        )
