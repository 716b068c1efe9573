"""Where records begin and end in a text."""

from typing import Final

from corpusmill.pipeline.sources.warc.header import MAX_HEADER, Format, Header
from corpusmill.pipeline.sources.warc.text import Text

__all__ = ["Grammar"]

_LINE: Final = 1 << 12
_SCHEME: Final = 32  # bytes before a place that may belong to a URL in it, whose rest looks like one too


class Grammar:
    """Finds headers and ends of records at given positions of a text.

    Args:
        form: WARC or ARC.
    """

    def __init__(self, form: Format) -> None:
        self._form = form

    def header(self, text: Text, start: int, *, strict: bool) -> tuple[Header, int] | None:
        """The header at `start` and its bytes, see `Format.parse`; None where there is none."""
        for size in (1 << 12, 1 << 16, MAX_HEADER):
            head = text.look(start, size)
            try:
                return self._form.parse(head, strict=strict)
            except EOFError:
                if len(head) < size:
                    return None
        return None

    def is_cut(self, text: Text, start: int) -> bool:
        """Whether a text ends within the header at `start`."""
        head = text.look(start, MAX_HEADER)
        try:
            self._form.parse(head, strict=False)
        except EOFError:
            return len(head) < MAX_HEADER
        return False

    def starts(self, text: Text, place: int) -> bool:
        """Whether the first line of a header begins at `place`, rather than before it."""
        n_before = min(_SCHEME, place - text.position)
        head = text.look(place - n_before, n_before + _LINE)
        line = self._form.START.search(head)
        is_within = line is not None and line.start() < n_before < line.end()
        return not is_within and self._form.START.match(head[n_before:]) is not None

    def starts_or_ends(self, text: Text, place: int) -> bool:
        """Whether a header, behind blanks or not, or the end of the text is at `place`."""
        return not text.look(place, 1) or self.starts(text, text.blank(place))

    def after(self, text: Text, last: int, *, strict: bool) -> int | None:
        """Where the next record may begin behind a block that ends at `last`; None if it does not end properly."""
        place = text.blank(last)
        boundary = text.boundary(last)
        if boundary is not None and place >= boundary:
            return boundary
        if (place > last or not strict) and self.starts(text, place):
            return place
        return self._behind_end(text, last, self._form.PROVING_ENDS if strict else self._form.ENDS)

    def behind(self, text: Text, place: int) -> int | None:
        """The position behind a record and what its format writes behind it; None if one of them is not there."""
        found = self.header(text, place, strict=False)
        last = place if found is None else place + found[1] + found[0].length
        if found is None or not text.reach(last):
            return None
        end = self._behind_end(text, last, self._form.ENDS)
        return last if end is None and text.boundary(last) == last else end

    def _behind_end(self, text: Text, last: int, ends: tuple[bytes, ...]) -> int | None:
        behind = text.look(last, 4)
        return next((last + len(end) for end in ends if behind.startswith(end)), None)
