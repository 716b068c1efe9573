"""Reads WARC and ARC records one by one and proves each of them; `search` finds the next one after damage.

A record is believed if all its block is there and is properly followed: by blank lines and the next header or the end
of the file or gzip member, or by exactly the end that its format prescribes, unless a record that begins in its block
goes on behind that. If it is alone in its gzip member, the
checksum must be right too. Members that hold several records (one for the whole file, as a rule) prove them one by one,
so that what lies before damage is kept; a checksum that fails at their end is a damaged stretch of its own.
"""

import itertools
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged
from corpusmill.pipeline.sources.warc.content import Place, block_limit, is_counted, make_record, split_block
from corpusmill.pipeline.sources.warc.grammar import Grammar
from corpusmill.pipeline.sources.warc.header import MAX_HEADER, Format, Header
from corpusmill.pipeline.sources.warc.search import Search, Where
from corpusmill.pipeline.sources.warc.text import Member, Region, Text

__all__ = ["RecordReader"]

_CROSSINGS: Final = 1000  # candidates


@dataclass(slots=True)
class _Unit:
    """A record that is believed; positions in the text.

    Attributes:
        header: of the record.
        block: its block, or the beginning of one that is too long.
        after: where the next record may begin.
        is_slice: whether it begins where its member begins.
    """

    header: Header
    block: bytes
    after: int
    is_slice: bool


@dataclass(slots=True)
class _Failure:
    """What is wrong at the front of a text.

    Attributes:
        reason: see `damaged`.
        where: the next record may be, see `Search.go_on`.
    """

    reason: DamageReason
    where: Where


@dataclass(slots=True)
class _Damage:
    offset: int
    record_index: int
    reason: DamageReason


class RecordReader:
    """Reads records from any place of a file where one, or damage, begins.

    Args:
        piece: what is read.
        region: the file, or the stretch of it that is at hand.
        counts: see `make_record`.
        form: WARC or ARC.
        packed: whether the file consists of gzip members.
    """

    def __init__(self, piece: Slice, region: Region, counts: Counter[str], form: Format, *, packed: bool) -> None:
        self._piece = piece
        self._region = region
        self._counts = counts
        self._form = form
        self._packed = packed
        self._limit = block_limit(piece)
        self._grammar = Grammar(form)
        self._search = Search(piece, region, form, packed=packed)
        self._member = -1
        self._n_in_member = 0

    def read(self, offset: int, patience: int) -> Generator[Record, None, int]:
        """The records from an offset on, and the damage between them.

        Args:
            offset: where a record begins, in a packed file the member of one.
            patience: records to read before the first place where `read` may be called again.

        Returns:
            That place; the end of the region at the latest.
        """
        text: Text | None = self._search.open(offset)
        damage: _Damage | None = None
        n = 0
        while text is not None:
            found = self._next(text)
            if found is None:
                break
            if isinstance(found, _Failure):
                damage = damage or _Damage(*self._at, found.reason)
                text = self._search.go_on(text, found.where)
                continue
            if damage is not None:
                yield self._damaged(damage, self._at[0], goes_on=True)
                damage = None
            end = text.ends_at(found.after)
            record = self._make(found, end)
            if record is not None:
                yield record
            text.drop(found.after)
            self._n_in_member += 1
            n += 1
            if n >= patience and end is not None:
                return end
        if damage is not None:
            yield self._damaged(damage, self._region.end, goes_on=False)
        return self._region.end

    def find(self) -> int | None:
        """The offset of the first record that a search finds and that is followed by more of them, or by the end."""
        return self._search.find()

    def _make(self, unit: _Unit, end: int | None) -> Record | None:
        offset, record_index = self._at
        place = Place(offset, record_index, end - offset if end is not None and unit.is_slice else None)
        if unit.header.kind == "unknown" and not self._packed:  # no checksum says that it was written so
            return damaged(self._piece.file_path, offset, place.length, reason="damaged_header")
        if is_counted(unit.header, self._counts):
            return None
        return make_record(self._piece, self._counts, unit.header, place, *split_block(unit.header, unit.block))

    def _damaged(self, damage: _Damage, end: int, *, goes_on: bool) -> Record:
        reason = damage.reason
        if reason == "damaged_end" and goes_on:  # it only seemed to be the end
            reason = "damaged_compression" if self._packed else "damaged_length"
        file_path = self._piece.file_path
        length = end - damage.offset or None
        record = damaged(file_path, damage.offset, length, damage.record_index, reason=reason)
        if damage.record_index:  # a member may have several damaged stretches
            record.key = f"{file_path}:{damage.offset}:{damage.record_index}:damaged"
        return record

    def _locate(self, offset: int) -> None:
        """Note where the next record, or damage, begins, and how many records its member already had."""
        if offset != self._member:
            self._member, self._n_in_member = offset, 0
        self._at = (offset, self._n_in_member if self._packed else 0)

    # One record

    def _next(self, text: Text) -> _Unit | _Failure | None:
        """What is at the front of a text: a record, something wrong, or, None, the end of the file."""
        front = text.position
        text.drop_blank()
        start = text.position
        if not text.buffer:
            stop = text.stop
            if stop is None or stop.reason is None:
                return None
            self._locate(stop.offset)
            return _Failure(stop.reason, "elsewhere")
        member = text.member(start)
        self._locate(member.offset if self._packed else start)
        found = self._grammar.header(text, start, strict=False)
        if found is None:
            is_cut = self._grammar.is_cut(text, start)
            return self._fail(text, member, "damaged_end" if is_cut else "damaged_header", is_whole=not is_cut)
        header, size = found
        first, last = start + size, start + size + header.length
        is_slice = not self._packed or front <= member.start
        if self._packed and header.length > self._limit and not self._ends_early(text, member, last):
            return self._pass(text, header, member, first, last, is_slice=is_slice)
        reached = text.reach(last)
        after = self._grammar.after(text, last, strict=False) if reached else None
        if after is not None and not self._grammar.starts_or_ends(text, after) and self._is_crossed(text, first, last):
            after = None
        if after is not None and not self._is_settled(text, member, last, after):
            return self._fail(text, member, "damaged_compression", is_whole=False)
        if after is None:
            after = self._correct(text, header, member, first)
        if after is None:
            reason: DamageReason = "damaged_length" if reached or self._packed else "damaged_end"
            return self._fail(text, member, reason, is_whole=reached)
        size = header.length if header.length <= self._limit else MAX_HEADER
        return _Unit(header, text.look(first, size), after, is_slice)

    def _is_settled(self, text: Text, member: Member, last: int, after: int) -> bool:
        """Whether a record of a packed file is proven: by the next one in its member, or by the checksum."""
        final = text.member(last - 1)
        if final is member and (self._at[1] > 0 or (after != member.end and self._grammar.starts(text, after))):
            return True
        text.settle(final)
        return final.sound or text.stop is None

    def _is_crossed(self, text: Text, first: int, last: int) -> bool:
        """Whether a block holds the beginning of a record that ends behind it: then its own end is no end."""
        block = text.look(first, min(last - first, self._limit))
        for match in itertools.islice(self._form.START.finditer(block), _CROSSINGS):
            found = self._grammar.header(text, first + match.start(), strict=True)
            end = 0 if found is None else first + match.start() + found[1] + found[0].length
            if end > last and text.reach(end):
                after = self._grammar.after(text, end, strict=True)
                if after is not None and self._grammar.starts_or_ends(text, after):
                    return True
        return False

    def _ends_early(self, text: Text, member: Member, last: int) -> bool:
        """Whether a record's member ends before the record's length is up, and another record follows it."""
        text.settle(member)
        return member.end is not None and member.end < last and self._grammar.starts_or_ends(text, member.end)

    def _correct(self, text: Text, header: Header, member: Member, first: int) -> int | None:
        """Correct a wrong length by the end of the gzip member, if that tells; returns where the next record begins."""
        text.settle(member)
        end = member.end
        if (
            not self._packed
            or not member.sound
            or end is None
            or end < first
            or not self._grammar.starts_or_ends(text, end)
        ):
            return None
        for match in self._form.START.finditer(text.buffer, first - text.position, end - text.position):
            if self._grammar.header(text, text.position + match.start(), strict=True) is not None:
                return None  # the member may hold several records
        tail = text.look(max(first, end - 4), 4)
        close = next((close for close in self._form.ENDS if tail.endswith(close)), b"")
        header.length = end - len(close) - first
        return end

    def _pass(
        self, text: Text, header: Header, member: Member, first: int, last: int, *, is_slice: bool
    ) -> _Unit | _Failure:
        """Go past a block that is too long to be held."""
        block = text.look(first, MAX_HEADER)
        while text.end < last and text.more():
            text.drop(text.end)
        text.drop(last)
        after = self._grammar.after(text, last, strict=False) if text.position == last else None
        if after is not None and self._is_settled(text, member, last, after):
            return _Unit(header, block, after, is_slice)
        stop = text.stop
        if stop is not None and stop.reason is not None:
            return _Failure(stop.reason, "elsewhere")
        return _Failure("damaged_length", "front")

    def _fail(self, text: Text, member: Member, reason: DamageReason, *, is_whole: bool) -> _Failure:
        text.settle(member)
        stop = text.stop
        if member.sound or stop is None or stop.reason is None or (is_whole and self._at[1] > 0):
            return _Failure(reason, "inside")
        return _Failure(stop.reason, "elsewhere")
