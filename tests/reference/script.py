"""The script rule, character by character; scripts by the names that Unicode gives their letters."""

import unicodedata

WEIGHTS = {
    "LATIN": 1,
    "CJK UNIFIED IDEOGRAPH": 12,
    "HANGUL SYLLABLE": 8,
    "ETHIOPIC SYLLABLE": 8,
    "HIRAGANA LETTER": 4,
    "KATAKANA LETTER": 4,
    "CYRILLIC": 4,
    "GREEK": 4,
    "ARABIC LETTER": 4,
    "DEVANAGARI LETTER": 4,
    "THAI CHARACTER": 4,
}


def stays(line: str, own: set[str], percent: int = 50) -> bool:
    """Whether the letters of the scripts `own` have that part of the line's weight or more."""
    theirs = whole = 0
    for character in line:
        name = unicodedata.name(character, "")
        for script, weight in WEIGHTS.items():
            if unicodedata.category(character)[0] == "L" and name.startswith(script):
                whole += weight
                theirs += weight if script in own else 0
    return 100 * theirs >= percent * whole


def script_lines(text: str, own: set[str], percent: int = 50) -> str:
    """The text without the lines that go; blank lines only change where a line went."""
    lines = text.split("\n")
    if all(stays(line, own, percent) for line in lines):
        return text
    kept: list[str] = []
    for line in lines:
        if line.strip() and stays(line, own, percent):
            kept.append(line)
        elif not line.strip() and kept and kept[-1]:
            kept.append("")
    while kept and not kept[-1]:
        kept.pop()
    return "\n".join(kept)
