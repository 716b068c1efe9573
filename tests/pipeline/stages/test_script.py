"""Which lines are written in the script of their document's language."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import language, prose, script
from tests.reference import script as reference

ROWS = map(json.loads, (Path(__file__).parents[2] / "data/udhr.jsonl").read_text().splitlines())
UDHR = {row["language"]: row["text"] for row in ROWS}


def keep(text: str | None, tag: str | None, share: float = 0.5) -> str | None:
    return script.script_lines(pa.array([text], pa.string()), pa.array([tag], pa.string()), share)[0].as_py()


@pytest.mark.parametrize("tag", [tag for tag in UDHR if tag != "en"])
def test_english_paragraphs_go_from_a_page_translated_in_part(tag: str) -> None:
    lines = UDHR[tag].split("\n")
    english = UDHR["en"].split("\n")
    assert keep("\n".join([*lines[:3], *english, *lines[3:]]), tag) == UDHR[tag]
    assert keep("\n".join([*english[:3], *lines, *english[3:]]), "en") == UDHR["en"]


@pytest.mark.parametrize(
    ("tag", "line"),
    [
        ("zh-Hans", "请先运行 apt-get install linux-image-amd64，然后 reboot。"),
        ("zh-Hans", "•自由软件有 GNU, Linux, Apache, Samba, GNOME, KDE, Mozilla, LibreOffice, Vim 等等"),
        ("zh-Hant", "選擇 Tools - Customize - Keyboard"),
        ("zh-Hant", "注音符號：ㄅㄆㄇㄈ"),
        ("ja", "東京都千代田区"),
        ("ja", "ありがとうございます"),
        ("ja", "コンピュータ ア、イ、ウ ﾊﾝｶｸ"),
        ("ko", "大韓民國"),
        ("ko", "데비안은 Debian 프로젝트에서 만든다"),
        ("ru", "Установите пакет linux-image-amd64 командой apt-get install"),
        ("uk", "Ласкаво просимо"),
        ("sr", "Добро дошли, dobro došli"),
        ("el", "Καλώς ήρθατε στο Debian GNU/Linux"),
        ("ar", "ثبّت الحزمة linux-image-amd64"),
        ("fa", "خوش آمدید به Debian"),
        ("ur", "خوش آمدید"),
        ("he", "ברוכים הבאים ל-Debian"),
        ("yi", "ברוכים־הבאים"),
        ("hi", "डेबियन में आपका स्वागत है"),
        ("ne", "स्वागत छ"),
        ("bn", "স্বাগতম"),
        ("pa", "ਜੀ ਆਇਆਂ ਨੂੰ"),
        ("pa", "جی آیاں نوں"),
        ("gu", "સ્વાગત છે"),
        ("or", "ସ୍ୱାଗତ"),
        ("ta", "நல்வரவு"),
        ("te", "స్వాగతం"),
        ("kn", "ಸ್ವಾಗತ"),
        ("ml", "സ്വാഗതം"),
        ("si", "සාදරයෙන් පිළිගනිමු"),
        ("th", "ยินดีต้อนรับสู่ Debian"),
        ("lo", "ຍິນດີຕ້ອນຮັບ"),
        ("km", "សូមស្វាគមន៍"),
        ("my", "ကြိုဆိုပါတယ်"),
        ("bo", "དགའ་བསུ་ཞུ།"),
        ("ka", "კეთილი იყოს თქვენი მობრძანება"),
        ("hy", "Բարի գալուստ Debian"),
        ("am", "እንኳን ደህና መጡ ወደ Debian"),
        ("dv", "މަރުހަބާ"),
        ("vi", "Chào mừng bạn đến với Debian"),
        ("en", "The town (Chinese: 北京) is the capital of a country."),
        ("en", "The letters α, β and γ stand for the angles."),
    ],
)
def test_lines_of_the_language_stay_whatever_names_they_hold(tag: str, line: str) -> None:
    other = "其他语言。" if tag in ("en", "vi", "sr") else "Another language."
    assert keep(f"{line}\n{other}", tag) == line


@pytest.mark.parametrize(
    ("tag", "line"),
    [
        ("zh-Hans", "If your Windows applications are 32 bit ones, then enable them (see 第 5.4 节)."),
        ("zh-Hans", "Debian GNU/Linux 12"),  # a name alone reads as English
        ("zh-Hans", "https://www.debian.org/"),
        ("zh-Hans", "Добро пожаловать"),
        ("zh-Hans", "ありがとう、皆さん、ようこそ"),
        ("ja", "환영합니다"),
        ("ko", "ようこそ"),
        ("ru", "خوش آمدید"),
        ("el", "Добро пожаловать"),
        ("th", "ຍິນດີຕ້ອນຮັບ"),
        ("en", "请运行 apt-get install linux-image 命令。"),
        ("en", "Добро пожаловать в Debian"),
        ("sr-Latn", "Добро дошли"),
        ("sr-Cyrl", "dobro došli"),
    ],
)
def test_lines_of_another_script_go(tag: str, line: str) -> None:
    assert keep(line, tag) == ""


def test_another_language_in_the_same_script_stays() -> None:
    text = "The bridge is closed.\nLe pont est fermé.\nKöprü kapalı."
    assert keep(text, "en") == text


@pytest.mark.parametrize("line", ["2026-11-02", "* * *", "———", "1,5 × 10⁻³ %", "😀", "ー", "𝑥 = 𝑦"])
def test_lines_without_letters_of_one_script_stay(line: str) -> None:
    assert keep(f"{line}\nEnglish", "zh-Hans") == line
    assert keep(f"{line}\n中文", "en") == line


@pytest.mark.parametrize("tag", ["und", "mul", "chr", "xal", "ff-Adlm", None])
def test_a_language_whose_script_we_do_not_know_changes_nothing(tag: str | None) -> None:
    text = "English\n\n\n中文\nДобро"
    assert keep(text, tag) == text


def test_scripts_that_we_do_not_know_count_for_nothing() -> None:
    assert keep("ᏣᎳᎩ\nⵜⴰⵎⴰⵣⵉⵖⵜ\nEnglish", "ar") == "ᏣᎳᎩ\nⵜⴰⵎⴰⵣⵉⵖⵜ"


def test_every_language_that_is_identified_has_a_script_but_six() -> None:
    _, tags = language._model(None)
    without = {tag for tag in tags.values() if not script.scripts(tag)}
    assert without == {"azb", "cbk", "ie", "mwl", "nah", "xal"}, "CLDR has no likely script for these"


def test_paragraphs_stay_apart_where_a_line_goes() -> None:
    text = "  English \n\n  第一段 \r\nEnglish\n \nEnglish\n\n第二段\n第三段\n\n"
    assert keep(text, "zh-Hans") == "  第一段 \r\n\n第二段\n第三段"


def test_a_text_that_loses_no_line_is_untouched() -> None:
    text = "\n 第一段 \n\n\n \n第二段\n\n"
    assert keep(text, "zh-Hans") == text


def test_null_stays_null_and_types_stay() -> None:
    texts = pa.array(["padding", None, "English", "", "中文\nEnglish"], pa.large_string())[1:]
    tags = pa.array(["en", "zh", "zh", "zh", "zh"])[1:]
    assert script.script_lines(texts, tags) == pa.array([None, "", "", "中文"], pa.large_string())


OWN = {
    "en": {"LATIN"},
    "zh-Hans": {"CJK UNIFIED IDEOGRAPH"},
    "ja": {"CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER"},
    "ko": {"CJK UNIFIED IDEOGRAPH", "HANGUL SYLLABLE"},
    "ru": {"CYRILLIC"},
    "ar": {"ARABIC LETTER"},
    "hi": {"DEVANAGARI LETTER"},
    "th": {"THAI CHARACTER"},
    "am": {"ETHIOPIC SYLLABLE"},
}
LETTERS = "É中文字かカ한글мтγجसबปิดሰ12«,… "
words = st.sampled_from(["apt-get", "中文", "かな", "мост", "γέφυρα", "جسر", "पुल"]) | st.text(LETTERS, max_size=3)
lines = st.lists(words, max_size=5).map(" ".join) | st.sampled_from(["", " ", "这座老桥从春天起禁止通行了。"])
texts = st.lists(lines, max_size=6).map("\n".join)


@settings(deadline=None, max_examples=200)
@given(texts, st.sampled_from(sorted(OWN)), st.integers(1, 100))
def test_the_rule_is_that_of_the_reference(text: str, tag: str, percent: int) -> None:
    assert keep(text, tag, percent / 100) == reference.script_lines(text, OWN[tag], percent)


def test_a_strict_share_takes_sentences_that_are_mostly_names() -> None:
    names, sentence = "请用 GNU/Linux 或者 LibreOffice。", "这个选项可以在 Debian 里使用。"
    assert keep(f"{names}\n{sentence}", "zh") == f"{names}\n{sentence}"
    assert keep(f"{names}\n{sentence}", "zh", 0.95) == sentence, "4 Han letters for 19 Latin ones, 11 for 6"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.none() | texts, st.sampled_from([*OWN, "und"])), max_size=5), st.integers(0, 5))
def test_a_text_is_judged_alone_and_a_line_too(documents: list[tuple[str | None, str]], cut: int) -> None:
    array = pa.array(["padding", *(text for text, _ in documents)], pa.string())[1:]
    tags = pa.array(["en", *(tag for _, tag in documents)], pa.string())[1:]
    whole = script.script_lines(array, tags)
    parts = [script.script_lines(array[:cut], tags[:cut]), script.script_lines(array[cut:], tags[cut:])]
    assert pa.chunked_array(parts).combine_chunks() == whole
    assert script.script_lines(whole, tags) == whole
    assert prose.prose_lines(whole) == script.script_lines(prose.prose_lines(array), tags), "the order is free"
