"""Elements of a JSON array that fills a file, one after the other, so that no file need fit into memory.

The array is split at the commas between its elements, which are told from others by counting brackets outside of
strings (RFC 8259). What an element means is up to who reads it: a broken one costs itself only, as long as its
brackets and quotes come in pairs.
"""

import codecs
import io
import re
from collections.abc import Iterator
from typing import Final

from corpusmill.pipeline.sources.lines import Line
from corpusmill.pipeline.sources.record import DamageReason
from corpusmill.pipeline.sources.unpack import Unpacked

__all__ = ["HEAD_BYTES", "is_array", "read_elements"]

HEAD_BYTES: Final = 1 << 12
"""How many bytes of a file tell whether it is an array."""

_ARRAY: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")
_TOKEN: Final = re.compile(rb'["\[\]{},]')
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BLOCK: Final = 1 << 18


def is_array(head: bytes) -> bool:
    """Whether content begins as an array does, by its first bytes."""
    return _ARRAY.match(head[:HEAD_BYTES]) is not None


def read_elements(stream: io.BufferedReader, unpacked: Unpacked | None, max_bytes: int) -> Iterator[Line]:
    """The elements of the array that a stream holds, as lines are read from other files.

    Args:
        stream: the content from its start.
        unpacked: what unpacks it, if it is packed.
        max_bytes: longer elements are "too_large".

    Yields:
        The elements, without the blanks around them. An array that is not closed ends with one "damaged_end"; damage
        in a packed file ends it, as the place within the array is lost.
    """
    splitter = _Splitter()
    element = _Element(max_bytes, unpacked is not None)
    while block := stream.read1(_BLOCK):
        first = 0
        for separator in splitter.separators(block):
            element.add(block[first:separator])
            yield from element.finish()
            first = separator + 1
        element.add(block[first:])
    if unpacked is not None and unpacked.damage is not None:
        yield element.cut(unpacked.damage)
    elif splitter.depth > 0:
        yield element.cut("damaged_end")
    else:
        yield from element.finish()


class _Splitter:
    """Finds the brackets of the array and the commas between its elements.

    Attributes:
        depth: brackets that are open.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = False
        self._is_escaped = False

    def separators(self, block: bytes) -> Iterator[int]:
        """Their positions in the next block."""
        position = int(self._is_escaped)
        self._is_escaped = False
        while position < len(block):
            if self._in_string:
                position = self._end_of_string(block, position)
                continue
            token = _TOKEN.search(block, position)
            if token is None:
                return
            position = token.end()
            match token[0]:
                case b'"':
                    self._in_string = True
                case b"[" | b"{":
                    self.depth += 1
                    if self.depth == 1:
                        yield token.start()
                case b"]" | b"}":
                    self.depth = max(0, self.depth - 1)
                    if self.depth == 0:
                        yield token.start()
                case _ if self.depth == 1:
                    yield token.start()

    def _end_of_string(self, block: bytes, position: int) -> int:
        inside = _IN_STRING.match(block, position)
        end = inside.end() if inside else position
        self._is_escaped = block[end:] == b"\\"  # what it escapes is in the next block
        self._in_string = self._is_escaped or end == len(block)
        return end + 1


class _Element:
    """What lies between two separators."""

    def __init__(self, max_bytes: int, is_packed: bool) -> None:
        self._max_bytes = max_bytes
        self._is_packed = is_packed
        self._offset = 0
        self._length = 0
        self._content = bytearray()

    def add(self, part: bytes) -> None:
        """Append a part of the element; what is too long is not kept."""
        self._length += len(part)
        self._content += part[: self._max_bytes + 1 - len(self._content)]

    def finish(self) -> Iterator[Line]:
        """The element, unless it is blank; the next one begins behind a separator."""
        content = bytes(self._content).removeprefix(codecs.BOM_UTF8 if self._offset == 0 else b"")
        if self._length > self._max_bytes:
            yield self.cut("too_large")
        elif element := content.strip():
            offset = self._offset + len(self._content) - len(content.lstrip())
            yield Line(offset, None if self._is_packed else len(element), element)
        self._offset += self._length + 1
        self._length = 0
        self._content.clear()

    def cut(self, reason: DamageReason) -> Line:
        """The element as one that cannot be read."""
        return Line(self._offset, None if self._is_packed else self._length, b"", reason)
