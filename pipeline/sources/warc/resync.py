"""Reads WARC and ARC records one by one and proves each of them; after damage it searches for the next one.

A record is believed if all its block is there and is properly followed: by blank lines and the next header or the end
of the file or gzip member, or by exactly the end that its format prescribes. If it is alone in its gzip member, the
checksum must be right too. Members that hold several records (one for the whole file, as a rule) prove them one by one,
so that what lies before damage is kept; a checksum that fails at their end is a damaged stretch of its own.

After damage a candidate must have a strictly valid header and be a believable record itself. The search stays out of
payloads, which may hold whole WARC records, by this evidence:

- a member whose content is damaged is left at its end, or for the next member that begins with a valid header;
- a stretch that still says where it ends, and does end there properly, is left at that place;
- records right behind what was the head of a record, that are followed by something else than a record, and then by
  the end of a payload and a sound record, lay in that payload.

What stays ambiguous: a record whose Content-Length is damaged, or whose head is gone without a trace, and that holds
records to which none of this applies. They are read as records then.
"""

import re
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal

from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged
from corpusmill.pipeline.sources.warc.content import Place, block_limit, is_counted, make_record, split_block
from corpusmill.pipeline.sources.warc.gzip_text import MAGIC, GzipText, find_members
from corpusmill.pipeline.sources.warc.header import MAX_HEADER, Format, Header
from corpusmill.pipeline.sources.warc.text import BLOCK, Member, PlainText, Region, Stop, Text

__all__ = ["RecordReader"]

_CHAIN: Final = 3  # records; a longer chain is believed
_HEAD_TRACES = re.compile(rb"^(?:WARC[-/]|HTTP/\d)", re.MULTILINE)
_CONTENT_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r?\n", re.MULTILINE | re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_NEAR: Final = 32
_SEARCH_WORK: Final = 32  # bytes decoded in vain, for each byte of the file


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
        where: the next record may be at the front, inside the same text, or elsewhere: in another member.
    """

    reason: DamageReason
    where: Literal["front", "inside", "elsewhere"]


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
        self._window = self._limit + 2 * MAX_HEADER
        self._work = _SEARCH_WORK * (region.end - region.start) + self._window
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
        text: Text | None = self._open(offset)
        damage: _Damage | None = None
        n = 0
        while text is not None:
            found = self._next(text)
            if found is None:
                break
            if isinstance(found, _Failure):
                damage = damage or _Damage(*self._at, found.reason)
                text = self._go_on(text, found)
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
        if self._packed:
            packed = self._open_next(self._region.start)
            while packed is not None:
                stop = self._stop_of_run(packed)
                if stop is None or stop.reason is None:
                    return packed.member(packed.position).offset
                packed = self._open_next(stop.resume)
            return None
        text = self._open(self._region.start)
        place: int | None = text.position
        while place is not None:
            place = self._search(text, place)
            broken = None if place is None else self._break(text, place)
            if broken is None:
                return place
            place = broken
        return None

    def _open(self, offset: int) -> Text:
        if self._packed:
            return GzipText(self._region, offset, self._window, self._piece)
        return PlainText(self._region, offset, self._window)

    def _make(self, unit: _Unit, end: int | None) -> Record | None:
        if is_counted(unit.header, self._counts):
            return None
        offset, record_index = self._at
        place = Place(offset, record_index, end - offset if end is not None and unit.is_slice else None)
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
        found = self._header(text, start, strict=False)
        if found is None:
            is_cut = self._is_cut(text, start)
            return self._fail(text, member, "damaged_end" if is_cut else "damaged_header", is_whole=not is_cut)
        header, size = found
        first, last = start + size, start + size + header.length
        is_slice = not self._packed or front <= member.start
        if self._packed and header.length > self._limit and not self._ends_early(text, member, last):
            return self._pass(text, header, member, first, last, is_slice=is_slice)
        reached = text.reach(last)
        after = self._after(text, last, strict=False) if reached else None
        if after is not None and not self._is_settled(text, member, last, after):
            return self._fail(text, member, "damaged_compression", is_whole=False)
        if after is None:
            after = self._correct(text, header, member, first)
        if after is None:
            reason: DamageReason = "damaged_length" if reached or self._packed else "damaged_end"
            return self._fail(text, member, reason, is_whole=reached)
        size = header.length if header.length <= self._limit else MAX_HEADER
        return _Unit(header, text.look(first, size), after, is_slice)

    def _is_cut(self, text: Text, start: int) -> bool:
        """Whether a text ends within the header at `start`."""
        head = text.look(start, MAX_HEADER)
        try:
            self._form.parse(head, strict=False)
        except EOFError:
            return len(head) < MAX_HEADER
        return False

    def _header(self, text: Text, start: int, *, strict: bool) -> tuple[Header, int] | None:
        for size in (1 << 12, 1 << 16, MAX_HEADER):
            head = text.look(start, size)
            try:
                return self._form.parse(head, strict=strict)
            except EOFError:
                if len(head) < size:
                    return None
        return None

    def _after(self, text: Text, last: int, *, strict: bool) -> int | None:
        """Where the next record may begin behind a block that ends at `last`; None if it does not end properly."""
        place = text.blank(last)
        boundary = text.boundary(last)
        if boundary is not None and place >= boundary:
            return boundary
        if (place > last or not strict) and self._starts(text, place):
            return place
        ends = self._form.PROVING_ENDS if strict else self._form.ENDS
        behind = text.look(last, 4)
        return next((last + len(end) for end in ends if behind.startswith(end)), None)

    def _starts(self, text: Text, place: int) -> bool:
        return self._form.START.match(text.look(place, 1 << 12)) is not None

    def _is_settled(self, text: Text, member: Member, last: int, after: int) -> bool:
        """Whether a record of a packed file is proven: by the next one in its member, or by the checksum."""
        final = text.member(last - 1)
        if final is member and (self._at[1] > 0 or (after != member.end and self._starts(text, after))):
            return True
        text.settle(final)
        return final.sound or text.stop is None

    def _ends_early(self, text: Text, member: Member, last: int) -> bool:
        """Whether a record's member ends before the record's length is up, and another record follows it."""
        text.settle(member)
        return member.end is not None and member.end < last and self._is_start_or_end(text, member.end)

    def _is_start_or_end(self, text: Text, place: int) -> bool:
        return not text.look(place, 1) or self._starts(text, text.blank(place))

    def _correct(self, text: Text, header: Header, member: Member, first: int) -> int | None:
        """Correct a wrong length by the end of the gzip member, if that tells; returns where the next record begins."""
        text.settle(member)
        end = member.end
        if not self._packed or not member.sound or end is None or end < first or not self._is_start_or_end(text, end):
            return None
        for match in self._form.START.finditer(text.buffer, first - text.position, end - text.position):
            if self._header(text, text.position + match.start(), strict=True) is not None:
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
        after = self._after(text, last, strict=False) if text.position == last else None
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

    # The next record after damage

    def _go_on(self, text: Text, failure: _Failure) -> Text | None:
        """A text with the next record, or what may be one, at its front; None if there is none."""
        if failure.where == "front":
            return text
        if failure.where == "inside":
            place = self._resync(text)
            if place is not None:
                text.drop(place)
                return text
        stop = text.stop
        if not self._packed or stop is None or stop.reason is None:
            return None
        found = self._open_next(stop.resume)
        if found is None or not self._was_member(stop, found):
            return found
        broken = self._stop_of_run(found)
        if broken is None or broken.reason != "damaged_header":
            return found
        other = self._open_next(broken.resume)
        return found if other is None or self._stop_of_run(other) is not None else other

    def _was_member(self, stop: Stop, found: GzipText) -> bool:
        """Whether the stretch between a stop and what was found behind it was, as it looks, a gzip member."""
        if stop.reason != "damaged_header":
            return True
        head = self._region.look(stop.offset, min(1 << 12, found.member(found.position).offset - stop.offset))
        n_right = sum(a == b for a, b in zip(head, MAGIC + b"\x08", strict=False))
        return n_right > 1 or _HEAD_TRACES.search(head) is not None

    def _resync(self, text: Text) -> int | None:
        """Where in a text to read on."""
        front = text.position
        end = self._declared_end(text)
        if end is not None:
            first = self._search(text, front + 1, until=end)
            return first if first is not None and self._leads(text, first, end) else end
        head = text.look(front, 1 << 12)
        place = self._search(text, front + 1)
        if place is None or not _HEAD_TRACES.search(head[: place - front]):
            return place
        broken = self._break(text, place)
        if broken is None:
            return place
        other = self._search(text, broken, keep=True)
        if other is None:
            is_payload = text.stop is not None and text.look(text.end - 4, 4).endswith(self._form.ENDS)
            return text.end if is_payload else place
        return other if self._break(text, other) is None else place

    def _declared_end(self, text: Text) -> int | None:
        """Where a damaged record ends, if what is left of its header tells, and a record or the end is near there."""
        head = text.look(text.position, MAX_HEADER)
        blank = _BLANK_LINE.search(head)
        length = _CONTENT_LENGTH.search(head, 0, blank.end()) if blank else None
        if blank is None or length is None:
            return None
        starts = (text.position + start.start() for start in self._form.START.finditer(head, 1, blank.end()))
        if any(self._header(text, start, strict=True) for start in starts):
            return None  # the length is another record's
        last = text.position + blank.end() + int(length[1])
        after = self._after(text, last, strict=True) if text.reach(last) else None
        if after is not None and self._is_start_or_end(text, after) and self._break(text, after) is None:
            return after
        start = max(last - _NEAR, text.position + 1)
        near = text.look(start, 1 << 12)
        for match in self._form.START.finditer(near, 0, 3 * _NEAR):
            place = start + match.start()
            if self._is_record(text, place) and self._break(text, place) is None:
                return place
        return start + len(near) if 0 < len(near) < 3 * _NEAR else None

    def _search(self, text: Text, place: int, *, keep: bool = False, until: int | None = None) -> int | None:
        """The first believable record from `place` on.

        Args:
            text: is moved forward, if neither `keep` nor `until` is given.
            place: where to begin.
            keep: look only as far as the window reaches.
            until: look only up to here.
        """
        while True:
            match = self._form.START.search(text.buffer, max(0, place - text.position))
            if match is None:
                line = text.position + text.buffer.rfind(b"\n")
                place = max(place, line, text.end - 2 * BLOCK)
                if not keep and until is None:
                    text.drop(place)
                elif text.end - text.position > self._window or (until is not None and text.end >= until):
                    return None
                if not text.more():
                    return None
                continue
            place = text.position + match.start()
            if until is not None and place >= until:
                return None
            if self._is_record(text, place):
                return place
            place += 1

    def _is_record(self, text: Text, place: int) -> bool:
        found = self._header(text, place, strict=True)
        if found is None:
            return False
        header, size = found
        last = place + size + header.length
        if not text.reach(last):
            return self._packed and header.length > self._limit
        return self._after(text, last, strict=True) is not None

    def _break(self, text: Text, place: int) -> int | None:
        """Where the chain of records from `place` on comes to something else, if it is a short one."""
        for _ in range(_CHAIN):
            behind = self._behind(text, place)
            if behind is None or not self._starts(text, behind):
                return place if behind is None else None if not text.look(behind, 1) else behind
            place = behind
        return None

    def _leads(self, text: Text, place: int | None, end: int) -> bool:
        """Whether the chain of records from `place` on comes to `end`."""
        while place is not None and place < end:
            place = self._behind(text, place)
        return place == end

    def _behind(self, text: Text, place: int) -> int | None:
        """The position behind a record and what its format writes behind it; None if one of them is not there."""
        found = self._header(text, place, strict=False)
        last = place if found is None else place + found[1] + found[0].length
        if found is None or not text.reach(last):
            return None
        behind = text.look(last, 4)
        end = next((last + len(end) for end in self._form.ENDS if behind.startswith(end)), None)
        return last if end is None and text.boundary(last) == last else end

    def _open_next(self, offset: int) -> GzipText | None:
        """The text of the first member from an offset on in which a record begins, with that at its front."""
        for place in find_members(self._region, offset):
            text = GzipText(self._region, place, self._window, self._piece)
            if self._begins(text):
                return text
            self._work -= text.n_decoded
            if self._work < 0:
                break
        return None

    def _begins(self, text: GzipText) -> bool:
        start = text.blank(text.position)
        if not text.buffer:
            return False
        if self._header(text, start, strict=True) is not None:
            return True
        member = text.member(start)
        text.settle(member)
        place = self._search(text, start, until=member.end) if member.sound else None
        if place is not None:
            text.drop(place)
        return place is not None

    def _stop_of_run(self, text: GzipText) -> Stop | None:
        """Where a run of members stops, if it is a short one."""
        while text.n_members <= _CHAIN and text.end - text.position <= self._window and text.more():
            pass
        return text.stop
