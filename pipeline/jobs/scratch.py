"""How packed arrays travel between the steps of a graph: through files where workers share them, else as they are."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from corpusmill.schemas.files import TEMPORARY, Files

__all__ = ["Element", "Parcels", "Scratch"]

Element = tuple[int, bytes]
"""A key to group by, and a payload."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Scratch files of a run folder, swept when a run starts.

    Attributes:
        files: the run folder.
        shared: whether all workers see its files; else payloads carry the arrays themselves.
    """

    files: Files
    shared: bool

    def ship(self, name: str, blobs: Iterable[Element]) -> Iterator[Element]:
        """The same elements as payloads.

        Args:
            name: of the file, a pure function of what is in it: a repeated bundle overwrites the same bytes.
            blobs: key and packed array of each; taken one by one.
        """
        if not self.shared:
            for key, blob in blobs:
                yield key, b"B" + blob
            return
        name, offset, places = f"{TEMPORARY}/{name}", 0, []
        with self.files.create(name) as staged:
            for key, blob in blobs:
                places.append((key, json.dumps([name, offset, len(blob)]).encode()))
                offset += staged.write(blob)
        for key, place in places:
            yield key, b"R" + place

    def read(self, payload: bytes) -> bytes:
        """The packed array of a payload."""
        if payload[:1] == b"B":
            return payload[1:]
        name, offset, length = json.loads(payload[1:])
        with self.files.open(name) as handle:
            handle.seek(offset)
            return handle.read(length)


def size(payload: bytes) -> int:
    """Bytes of the packed array of a payload."""
    return len(payload) - 1 if payload[:1] == b"B" else int(json.loads(payload[1:])[2])


@dataclass(frozen=True, slots=True)
class Parcels:
    """The packed arrays of some payloads, read one by one, each time anew.

    Attributes:
        scratch: where they lie.
        payloads: of `Scratch.ship`, in any order.
    """

    scratch: Scratch
    payloads: Iterable[bytes]

    @property
    def n_bytes(self) -> int:
        """Of all of them."""
        return sum(map(size, self.payloads))

    def __iter__(self) -> Iterator[bytes]:
        return map(self.scratch.read, self.payloads)
