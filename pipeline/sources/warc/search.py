"""Searches for the next record behind damage, or behind whatever a file begins with.

A record that was searched for must have a strictly valid header, all its block, and a proper end. The search stays out
of payloads, which may hold whole WARC records and whole gzip files, by this evidence:

- a member whose content is damaged is left at its end, or for the next member that begins with a valid header;
- gzip members whose run breaks, and behind which stands the size of the content that they must have lain in, as at the
  end of a member, lay in that member;
- a stretch that still says where it ends, and does end near there, is left at that place;
- records right behind what was the head of a record, that are followed by something else than a record, and then by
  the end of a payload and a sound record, or by the end of the file before the record should end, lay in that payload.

What stays ambiguous: a record whose Content-Length is damaged, or whose head is gone without a trace, and that holds
records to which none of this applies, or many of them. They are read as records then.
"""

import re
from typing import Final, Literal

from corpusmill.pipeline.sources.record import Slice
from corpusmill.pipeline.sources.warc.content import block_limit
from corpusmill.pipeline.sources.warc.grammar import Grammar
from corpusmill.pipeline.sources.warc.gzip_text import MAGIC, GzipText, find_members
from corpusmill.pipeline.sources.warc.header import MAX_HEADER, Format
from corpusmill.pipeline.sources.warc.text import BLOCK, PlainText, Region, Stop, Text

__all__ = ["Search", "Where"]

Where = Literal["front", "inside", "elsewhere"]
"""Where the next record may be: at the front of a text, further inside it, or in another gzip member."""

_CHAIN: Final = 3  # records; a longer chain is believed
_PAYLOAD_CHAIN: Final = 64  # records; the same, where the payload of a damaged record may begin
_HEAD_TRACES = re.compile(rb"^(?:WARC[-/]|HTTP/\d)", re.MULTILINE)
_CONTENT_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r?\n", re.MULTILINE | re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_NEAR: Final = 1 << 12
_VERY_NEAR: Final = 32
_GZIP_HEAD: Final = MAGIC + b"\x08"
_GROWTH: Final = 8  # of content that holds packed files, by packing
_SEARCH_WORK: Final = 32  # bytes read and decoded in vain, for each byte of the file


class Search:
    """Finds records in a file without knowing where one begins.

    Args:
        piece: what is read.
        region: the file, or the stretch of it that is at hand.
        form: WARC or ARC.
        packed: whether the file consists of gzip members.
    """

    def __init__(self, piece: Slice, region: Region, form: Format, *, packed: bool) -> None:
        self._piece = piece
        self._region = region
        self._form = form
        self._packed = packed
        self._grammar = Grammar(form)
        self._limit = block_limit(piece)
        self._window = self._limit + 2 * MAX_HEADER
        self._work = _SEARCH_WORK * (region.end - region.start) + self._window

    def open(self, offset: int) -> Text:
        """The text from an offset on."""
        if self._packed:
            return GzipText(self._region, offset, self._window, self._piece)
        return PlainText(self._region, offset, self._window)

    def find(self) -> int | None:
        """The offset of the first record that is followed by more of them, or by the end of the file."""
        if self._packed:
            packed = self._open_next(self._region.start)
            while packed is not None:
                stop = self._stop_of_run(packed, _CHAIN)
                if stop is None or stop.reason is None:
                    return packed.member(packed.position).offset
                packed = self._open_next(stop.resume)
            return None
        text = self.open(self._region.start)
        place: int | None = text.position
        while place is not None:
            place = self._search(text, place)
            broken = None if place is None else self._break(text, place)
            if broken is None:
                return place
            place = broken
        return None

    def go_on(self, text: Text, where: Where) -> Text | None:
        """A text with the next record, or what may be one, at its front; None if there is none.

        Args:
            text: what cannot be read is at its front.
            where: to look for the next record.
        """
        if where == "front":
            return text
        if where == "inside":
            place = self._resync(text)
            if place is not None:
                text.drop(place)
                return text
        stop = text.stop
        if not self._packed or stop is None or stop.reason is None:
            return None
        return self._leave(stop, self._declared_size(text, stop))

    # In other gzip members

    def _declared_size(self, text: Text, stop: Stop) -> int | None:
        """Bytes of the record at the front of a text, if the member that stops the text begins with it."""
        if not text.buffer:
            return None
        member = text.member(text.position)
        found = self._grammar.header(text, text.position, strict=False)
        if found is None or member.offset != stop.offset or member.start < text.position:
            return None
        return found[1] + found[0].length

    def _leave(self, stop: Stop, size: int | None) -> GzipText | None:
        """The text of the first run of members behind a stop that does not lie in the member that is left.

        Args:
            stop: the member that is left.
            size: bytes of the record in it, but for its end, if known: a gzip member ends with the size of its content.
        """
        if stop.resume > stop.offset + 1:
            swallowed = self._open_next(stop.offset + 1, until=stop.resume)
            if swallowed is not None and swallowed.leads_to(stop.resume):
                return self._open_next(swallowed.member(swallowed.position).offset)
        found = self._open_next(stop.resume)
        broken = None if found is None else self._stop_of_run(found)
        if found is None or broken is None or broken.reason is None:
            return found
        start = found.member(found.position).offset
        end = None if size is None else self._end_of_member(stop, broken, start, size)
        if end is not None:
            swallowed = self._open_next(broken.resume, until=end)
            return found if swallowed is not None and swallowed.leads_to(end) else self._open_next(end)
        head = self._region.look(broken.offset, len(_GZIP_HEAD))
        if broken.reason != "damaged_header" or sum(a == b for a, b in zip(head, _GZIP_HEAD, strict=False)) > 1:
            return found
        other = self._open_next(broken.resume)
        end = self._region.end if other is None else other.member(other.position).offset
        held = int.from_bytes(self._region.look(end - 4, 4), "little")
        is_content = end - broken.offset >= 8 and broken.offset - start < held < _GROWTH * (end - stop.offset)
        return other if is_content else found

    def _end_of_member(self, stop: Stop, broken: Stop, start: int, size: int) -> int | None:
        """Where, behind a run of members from `start` to `broken`, a member ends that holds a record of some size."""
        if not 0 < broken.offset - start < size:
            return None
        sizes = [(size + len(end) & 0xFFFFFFFF).to_bytes(4, "little") for end in self._form.ENDS]
        most = min(stop.offset + size + _NEAR, self._region.end)
        ends = [*find_members(self._region, broken.resume, most), most]
        return next((end for end in ends if self._region.look(end - 4, 4) in sizes), None)

    def _open_next(self, offset: int, until: int | None = None) -> GzipText | None:
        """The text of the first member from an offset on in which a record begins, with that at its front."""
        for place in find_members(self._region, offset, until):
            text = GzipText(self._region, place, self._window, self._piece)
            if self._begins(text):
                return text
            self._work -= text.work
            if self._work < 0:
                break
        return None

    def _begins(self, text: GzipText) -> bool:
        if not text.more():
            return False
        member = text.member(text.position)
        while member.end is None and text.end < _NEAR and text.more():
            pass
        begins = self._form.START.match(text.buffer.lstrip()) is not None
        if begins and self._grammar.header(text, text.blank(text.position), strict=True) is not None:
            return True
        text.settle(member)
        place = self._search(text, text.position, until=member.end) if member.sound else None
        if place is not None:
            text.drop(place)
        return place is not None

    def _stop_of_run(self, text: GzipText, n_members: int | None = None) -> Stop | None:
        """Where a run of members stops, if within the window, and within some members."""
        while (n_members is None or text.n_members <= n_members) and text.end - text.position <= self._window:
            if not text.more():
                break
        return text.stop

    # In the same text

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
        broken = self._break(text, place, _PAYLOAD_CHAIN if self._form.PROVING_ENDS else _CHAIN)
        if broken is None:
            return place
        other = self._search(text, broken, keep=True)
        if other is None and text.stop is None:
            return place
        end = text.end if other is None else other
        tail = text.look(broken, min(end - broken, 1 << 12))
        is_payload = text.look(end - 4, 4).endswith(self._form.ENDS) and not _HEAD_TRACES.search(tail)
        is_payload = is_payload or (other is None and self._goes_beyond(text, front, end))
        if tail.strip() and self._break(text, place) is None:  # only blank lines are that sure a sign
            return place
        return end if is_payload and (other is None or self._break(text, other) is None) else place

    def _goes_beyond(self, text: Text, place: int, end: int) -> bool:
        """Whether a record says that it is longer than what is left."""
        found = self._grammar.header(text, place, strict=True)
        return found is not None and place + found[1] + found[0].length > end

    def _declared_end(self, text: Text) -> int | None:
        """Where a damaged record ends, if what is left of its header tells, and a record or the end is near there."""
        head = text.look(text.position, MAX_HEADER)
        blank = _BLANK_LINE.search(head)
        length = _CONTENT_LENGTH.search(head, 0, blank.end()) if blank else None
        if blank is None or length is None:
            return None
        starts = (text.position + start.start() for start in self._form.START.finditer(head, 1, blank.end()))
        if any(self._grammar.header(text, start, strict=True) for start in starts):
            return None  # the length is another record's
        last = text.position + blank.end() + int(length[1])
        after = self._grammar.after(text, last, strict=True) if text.reach(last) else None
        if after is not None and self._grammar.starts_or_ends(text, after) and self._break(text, after) is None:
            return after
        return self._near(text, last, min(_NEAR, max(_VERY_NEAR, int(length[1]))))

    def _near(self, text: Text, last: int, distance: int) -> int | None:
        """The record next to a position that is followed by records to far behind it; the end of the text if near."""
        start, far = max(last - distance, text.position + 1), last + distance
        near = text.look(start, far - start)
        places = [start + match.start() for match in self._form.START.finditer(near)]
        broken: set[int] = set()
        for place in sorted(places, key=lambda place: abs(place - last)):
            if self._is_record(text, place) and (
                self._passes(text, place, far, broken)
                or (abs(place - last) <= _VERY_NEAR and self._break(text, place) is None)
            ):
                return place
        end = start + len(near)
        return end if near and end < far and abs(end - last) <= 2 * _VERY_NEAR else None

    def _passes(self, text: Text, place: int, far: int, broken: set[int]) -> bool:
        """Whether the chain of records from `place` on goes beyond `far`, or to the end; notes what is on others."""
        chain = []
        at: int | None = place
        while at is not None and at < far and at not in broken:
            chain.append(at)
            at = self._grammar.behind(text, at)
            if at is not None and not self._grammar.starts(text, at):
                if not text.look(at, 1):
                    return True
                at = None
        if at is None or at in broken:
            broken.update(chain)
            return False
        return True

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
        found = self._grammar.header(text, place, strict=True)
        if found is None:
            return False
        header, size = found
        last = place + size + header.length
        if not text.reach(last):
            return self._packed and header.length > self._limit
        return self._grammar.after(text, last, strict=True) is not None

    def _break(self, text: Text, place: int, n: int = _CHAIN) -> int | None:
        """Where the chain of records from `place` on comes to something else, if it has no more than `n`."""
        for _ in range(n):
            behind = self._grammar.behind(text, place)
            if behind is None and text.end - text.position > self._window:
                return None
            if behind is None or not self._grammar.starts(text, behind):
                return place if behind is None else None if not text.look(behind, 1) else behind
            place = behind
        return None

    def _leads(self, text: Text, place: int | None, end: int) -> bool:
        """Whether the chain of records from `place` on comes to `end`."""
        while place is not None and place < end:
            place = self._grammar.behind(text, place)
        return place == end
