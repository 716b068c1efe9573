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


def stays(line: str, own: set[str]) -> bool:
    """Whether the letters of the scripts `own` weigh half of the line or more."""
    balance = 0
    for character in line:
        name = unicodedata.name(character, "")
        for script, weight in WEIGHTS.items():
            if unicodedata.category(character)[0] == "L" and name.startswith(script):
                balance += weight if script in own else -weight
    return balance >= 0


def script_lines(text: str, own: set[str]) -> str:
    """The text without the lines that go; blank lines only change where a line went."""
    lines = text.split("\n")
    if all(stays(line, own) for line in lines):
        return text
    kept: list[str] = []
    for line in lines:
        if line.strip() and stays(line, own):
            kept.append(line)
        elif not line.strip() and kept and kept[-1]:
            kept.append("")
    while kept and not kept[-1]:
        kept.pop()
    return "\n".join(kept)
