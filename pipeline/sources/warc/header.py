"""Headers of WARC records (ISO 28500:2017 §4-§6), read as leniently as is safe, strictly where one is searched for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from corpusmill.pipeline.sources.record import parse_date

__all__ = ["ENDS", "MAX_HEADER", "PROVING_ENDS", "START", "Format", "Header", "Layouts", "parse"]

MAX_HEADER: Final = 1 << 20
"""Most bytes that a header may have, of a record or of the HTTP message in it; more is damage."""

START: Final = re.compile(rb"WARC/(?:0\.17|0\.18|1\.0|1\.1)[ \t]*\r?\n")
ENDS: Final = (b"\r\n\r\n", b"\n\n")
PROVING_ENDS: Final = ENDS

_TYPES: Final = {
    kind.encode(): kind
    for kind in ("warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation")
}
_LENGTH_DIGITS: Final = 15
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_FIELD = re.compile(rb"\n([^\s:]+)[ \t]*:[ \t]*([^\r\n]*)")
_FIELD_LINES = re.compile(rb"(?:(?:[!#-'*+.0-9A-Z^-z|~-]+[ \t]*:|[ \t]+[^\s])[^\r\n]*\r?\n)++")
_MAX_LAYOUTS, _MAX_FIELDS = 8, 64
_BLANK = re.compile(rb"\r?\n")
_VERSION: Final = b"WARC/"
_USUAL = re.compile(rb"WARC/1\.[01]((?:\r\n[!#-'*+.0-9A-Z^-z|~-]+: [^\r\n]*)+)\r\n\r\n")


@dataclass(slots=True)
class Header:
    """What a record says about itself.

    Attributes:
        kind: WARC-Type, "unknown" for one that the standard does not have; "filedesc" for the head of an ARC file.
        length: bytes of its block.
        fields: values by name in lower case, the first one of each name.
    """

    kind: str
    length: int
    fields: Mapping[bytes, bytes]


class Format(Protocol):
    """What the reader needs to know of a file format: this module for WARC, `arc` for ARC."""

    @property
    def START(self) -> re.Pattern[bytes]:  # noqa: N802
        """Matches where a record begins."""

    @property
    def ENDS(self) -> tuple[bytes, ...]:  # noqa: N802
        """What is written behind a block."""

    @property
    def PROVING_ENDS(self) -> tuple[bytes, ...]:  # noqa: N802
        """Those of `ENDS` that are rare enough in content to prove that a record ends."""

    def parse(self, head: bytes, *, strict: bool) -> tuple[Header, int] | None:
        """The header at the start of `head` and its bytes with the blank line; None where there is no valid one.

        Args:
            head: what is known of the record.
            strict: whether type and date must be valid and each line be a field: so it must be for a header that
                was searched for.

        Raises:
            EOFError: the header does not end within `head`.
        """


class Layouts:
    """Parses headers by what a file taught: its headers have the same few sequences of names, in today's plain form."""

    def __init__(self) -> None:
        self._known: list[tuple[re.Pattern[bytes], tuple[bytes, ...]]] = []

    def parse(self, text: bytes) -> tuple[Header, int] | None:
        """What `parse` gives, in a fifth of the time; None for a header of any other form, valid or not.

        Values are as they stand: `parse` may leave out blanks in front.
        """
        for i, (layout, names) in enumerate(self._known):
            found = layout.match(text, 0, MAX_HEADER)
            if found is not None:
                if i > 0:
                    self._known.insert(0, self._known.pop(i))
                header = _header(dict(zip(names, found.groups(), strict=True)))
                is_plain = text.find(_VERSION, len(_VERSION), found.end()) < 0  # else two headers may be one
                return (header, found.end()) if header is not None and is_plain else None
        return self.parse(text) if self._learn(text) else None

    def _learn(self, text: bytes) -> bool:
        usual = _USUAL.match(text, 0, MAX_HEADER)
        lines = usual[1].split(b"\r\n")[1:] if usual else []
        names = [line.partition(b": ")[0] for line in lines]
        keys = tuple(name.lower() for name in names)
        if len(names) > _MAX_FIELDS or len(set(keys)) < max(1, len(names)):
            return False
        fields = b"".join(re.escape(name) + rb": ([^\r\n]*)\r\n" for name in names)
        self._known.insert(0, (re.compile(rb"WARC/1\.[01]\r\n" + fields + rb"\r\n"), keys))
        del self._known[_MAX_LAYOUTS:]
        return True


def _header(values: Mapping[bytes, bytes]) -> Header | None:
    """The header with these values; None where Content-Length is missing or no number."""
    length = values.get(b"content-length", b"").strip()
    if not length.isdigit() or len(length) > _LENGTH_DIGITS:
        return None
    kind = values.get(b"warc-type", b"").strip()
    return Header(_TYPES.get(kind) or _TYPES.get(kind.lower(), "unknown"), int(length), values)


def parse(head: bytes, *, strict: bool) -> tuple[Header, int] | None:
    """See `Format.parse`.

    A lenient header is all up to the first blank line, junk between its fields included, but not the beginning of
    another record.
    """
    version = START.match(head)
    if version is None:
        if len(head) < len(b"WARC/1.0\r\n"):
            raise EOFError
        return None
    size = _strict_size(head, version.end()) if strict else _size(head, version.end())
    if not size or START.search(head, version.end(), size):
        return None
    fields = _FIELD.findall(_FOLD.sub(b" ", head[version.end() - 1 : size]))
    header = _header({name.lower(): value for name, value in reversed(fields)})
    if header is None:
        return None
    if strict and (header.kind == "unknown" or _date(header) is None):
        return None
    return header, size


def _date(header: Header) -> int | None:
    return parse_date(header.fields.get(b"warc-date", b"").decode("latin-1"))


def _size(head: bytes, start: int) -> int:
    blank = _BLANK_LINE.search(head, start - 1)
    if blank is None:
        raise EOFError
    return blank.end()


def _strict_size(head: bytes, start: int) -> int:
    """Length of a header all of whose lines are fields; 0 where one is not."""
    lines = _FIELD_LINES.match(head, start)
    end = lines.end() if lines else start
    blank = _BLANK.match(head, end)
    if blank is not None:
        return blank.end()
    if b"\n" not in head[end:]:
        raise EOFError
    return 0
