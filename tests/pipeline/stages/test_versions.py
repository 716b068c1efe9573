"""A stage whose output changes must get a new STAGE_VERSION: fingerprints rest on it.

When one of these fails, and the change is meant, raise the stage's number and add the digest under it.
"""

import hashlib
import json
from collections.abc import Callable

import pyarrow as pa
import pytest

from corpusmill.pipeline.stages import charset, html, language, script, unicode, wikitext
from tests.corpus import page, prose

TEXTS = [*prose("en")[:12], *prose("zh")[:12], "ﬁn\u200bale\u00a0 e\u0301\r\n\u3000\u3000全角　空白", ""]
PAGES = [page(f"T{i}", TEXTS[i : i + 3], "gb18030" if i > 12 else "utf-8") for i in range(20)]
MENU = b"<html><body><nav><a href=/>Home</a></nav><ul><li>one<li>two</ul><pre>a\n b</pre><table><tr><td>1<td>2</table>"


def run_charset() -> list[object]:
    pages = [*PAGES, MENU, None, TEXTS[12].encode("utf-16-be"), PAGES[-1]]
    text, codec = charset.decode(pa.array(pages, pa.large_binary()), pa.array([None, "gbk"] * 11 + [None, "latin1"]))
    return [text.to_pylist(), codec.to_pylist()]


def run_html() -> list[object]:
    pages = [data.decode("gb18030" if b"gb18030" in data else "utf-8") for data in [*PAGES, MENU]]
    pages += ["<td a=1>xyz" * 30_000, "<div>" * 40_000]
    return [column.to_pylist() for column in html.extract(pa.array(pages), html.ExtractSettings())]


def run_unicode() -> list[object]:
    return [unicode.normalise(pa.array([*TEXTS, None])).to_pylist()]


def run_language() -> list[object]:
    return [column.to_pylist() for column in language.identify(pa.array(TEXTS), language.LanguageSettings())]


def run_script() -> list[object]:
    texts = ["\n\n".join(TEXTS), *TEXTS, None]
    return [
        script.script_lines(pa.array(texts), pa.array([tag] * len(texts))).to_pylist() for tag in ("en", "zh", "ru")
    ]


def run_wikitext() -> list[object]:
    markup = [
        "'''{0}''' [[a|b]] {{convert|5|km}} -{{zh-hans:简;zh-hant:繁}}- <ref>x</ref>\n* {0}".replace("{0}", t)
        for t in TEXTS
    ]
    return [wikitext.to_text(pa.array(markup), "zh").to_pylist()]


GOLDEN = {
    ("charset", 2): "9a5f72a211cf084909a78ad5f24084d2",
    ("html", 2): "a703ff84317afc5e3ec422e687b04472",
    ("unicode", 1): "1f95a8ad3989ddb5dbf3d6f83dae7fbb",
    ("language", 1): "0f038fcbf9a93488374bfd2ed1901e59",
    ("script", 1): "3290575fbf62899b6643887169573580",
    ("wikitext", 1): "9545dee85749a99b819c8b77e211eb78",
}


@pytest.mark.parametrize(
    ("stage", "output"),
    [
        (charset, run_charset),
        (html, run_html),
        (unicode, run_unicode),
        (language, run_language),
        (script, run_script),
        (wikitext, run_wikitext),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "STAGE_VERSION") else "",
)
def test_output_and_number_change_together(stage, output: Callable[[], list[object]]) -> None:
    name = stage.__name__.rpartition(".")[2]
    digest = hashlib.sha256(json.dumps(output(), ensure_ascii=False).encode()).hexdigest()[:32]
    assert GOLDEN.get((name, stage.STAGE_VERSION)) == digest
