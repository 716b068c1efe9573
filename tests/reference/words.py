"""Our words, character by character; scripts by the names that Unicode gives their characters."""

import unicodedata

CONNECTORS = {
    "APOSTROPHE",
    "RIGHT SINGLE QUOTATION MARK",
    "HYPHEN-MINUS",
    "HYPHEN",
    "NON-BREAKING HYPHEN",
    "MIDDLE DOT",
    "HEBREW PUNCTUATION GERESH",
    "HEBREW PUNCTUATION GERSHAYIM",
    "SOFT HYPHEN",
    "ZERO WIDTH NON-JOINER",
    "ZERO WIDTH JOINER",
}
PERCENT = {  # of an English word, by the beginning of the name
    "CJK UNIFIED IDEOGRAPH": 60,
    "CJK COMPATIBILITY IDEOGRAPH": 60,
    "IDEOGRAPHIC": 60,
    "HIRAGANA": 25,
    "KATAKANA": 25,
    "HALFWIDTH KATAKANA": 25,
    "HENTAIGANA": 25,
    "THAI": 25,
    "LAO": 25,
    "KHMER": 30,
    "MYANMAR": 33,
}


def percent(character: str) -> int:
    """What a letter weighs as a word of its own, 0 if it is no letter of an unspaced script."""
    name = unicodedata.name(character, "")
    if unicodedata.category(character)[0] != "L" and character != "〇":
        return 0
    return next((weight for start, weight in PERCENT.items() if name.startswith(start)), 0)


def words(text: str) -> list[str]:
    """The words of a text."""
    characters: list[str] = []  # with the marks that stand on them
    for character in text:
        is_mark = unicodedata.category(character)[0] == "M"
        if is_mark and characters and (is_spaced(characters[-1]) or percent(characters[-1][0])):
            characters[-1] += character
        else:
            characters.append(character)

    found: list[str] = []
    open_word = False  # whether the last word may go on
    for place, character in enumerate(characters):
        neighbours = characters[place - 1 : place] + characters[place + 1 : place + 2]
        connects = unicodedata.name(character[0], "") in CONNECTORS
        if percent(character[0]):
            found.append(character)
            open_word = False
        elif is_spaced(character) and not open_word:
            found.append(character)
            open_word = True
        elif is_spaced(character) or (connects and open_word and len(neighbours) == 2 and is_spaced(neighbours[1])):
            found[-1] += character
        else:
            open_word = False
    return found


def is_spaced(character: str) -> bool:
    """Whether it is a letter or digit of a script with spaces between words, marks or none upon it."""
    return unicodedata.category(character[0])[0] in "LN" and not percent(character[0])


def weight(word: str) -> int:
    """Hundredths of an English word."""
    return percent(word[0]) or 100
