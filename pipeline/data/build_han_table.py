"""Builds han-script.json, the pinned character table with which `stages.language` tells zh-Hans from zh-Hant.

Run once, by hand: `python pipeline/data/build_han_table.py`. The file is committed because the language of Chinese
documents follows from it, while OpenCC's dictionaries change with its versions.

Hans holds the characters that OpenCC converts to another traditional one and that Big5 lacks; Hant those that it
converts to another simplified one and that GB 2312 lacks. The character sets keep out what both scripts write:
后 is simplified for 後 and also the traditional word for an empress, 著 is traditional for 着 and also simplified.
"""

import json
from importlib.metadata import version
from pathlib import Path

import opencc

TABLE = Path(__file__).with_name("han-script.json")

# The unified ideographs and extension A; later extensions are too rare to tell anything.
_IDEOGRAPHS = [chr(code) for block in (range(0x3400, 0x4DC0), range(0x4E00, 0xA000)) for code in block]


def build() -> str:
    """The content of the file."""
    simplified = _converted("s2t") - _converted("t2s")
    traditional = _converted("t2s") - _converted("s2t")
    table = {
        "opencc": version("opencc"),
        "Hans": "".join(sorted(c for c in simplified if not _encodable(c, "cp950"))),
        "Hant": "".join(sorted(c for c in traditional if not _encodable(c, "gb2312"))),
    }
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def _converted(config: str) -> set[str]:
    """The ideographs that a conversion changes."""
    converter = opencc.OpenCC(config)
    return {character for character in _IDEOGRAPHS if converter.convert(character) != character}


def _encodable(character: str, codec: str) -> bool:
    return bool(character.encode(codec, "ignore"))


if __name__ == "__main__":
    TABLE.write_text(build(), encoding="utf-8")
