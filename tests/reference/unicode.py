"""Normal form of a text, character by character and line by line."""

import itertools
import unicodedata

LINE_ENDS = "\n\r\x0b\x0c\x85\u2028\u2029"


def _is_dropped(character: str) -> bool:
    code = ord(character)
    is_noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    is_control = unicodedata.category(character) == "Cc" and character != "\t"
    return is_noncharacter or is_control or character in "\u00ad\u200b\ufeff"


def _is_space(character: str) -> bool:
    return unicodedata.category(character) == "Zs" or character == "\t"


def _line(line: str) -> str:
    """One line: its indentation, and its words with the runs of spaces between them cut."""
    body = line.lstrip("".join(filter(_is_space, line)))
    indent = line[: len(line) - len(body)]
    out = "" if "\u3000" in indent else "".join("\t" if space == "\t" else " " for space in indent)
    for is_space, run in itertools.groupby(unicodedata.normalize("NFC", body), _is_space):
        characters = "".join(run)
        out += characters if not is_space else "\t" if "\t" in characters else " "
    return out.rstrip(" \t")


def normalise(text: str) -> str:
    for end in ("\r\n", *LINE_ENDS):
        text = text.replace(end, "\n")
    lines = ["".join(c for c in line if not _is_dropped(c)) for line in text.split("\n")]
    out: list[str] = []
    for line in map(_line, lines):
        if line or (out and out[-1]):
            out.append(line)
    return "\n".join(out).strip(" \t\n")
