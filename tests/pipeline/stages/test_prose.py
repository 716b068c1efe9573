"""Which lines are running text, in many scripts."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import prose

ROWS = map(json.loads, (Path(__file__).parents[2] / "data/udhr.jsonl").read_text().splitlines())
UDHR = {row["language"]: row["text"] for row in ROWS}


def keep(text: str | None) -> str | None:
    return prose.prose_lines(pa.array([text], pa.string()))[0].as_py()


@pytest.mark.parametrize(
    "line",
    [
        "The old bridge was closed to all traffic in spring.",
        "Why was the old bridge closed to all traffic?",
        "• She said: “The bridge was closed to all traffic.”",
        "The bridge was closed to all traffic in spring.[12]",
        "The bridge was closed to all traffic (since spring!)¹ †",
        "And so the bridge stayed closed, and they waited…",
        "See https://example.org/roads/closed.html for the list of all bridges closed in spring.",
        "这座老桥从春天起禁止通行了。",
        "「这座老桥从春天起禁止通行了！」",
        "这座老桥从春天起禁止通行了。［3］",
        "這座老橋從春天起禁止通行了嗎？",
        "自 2026 年起 Linux 内核不再支持它。",  # 8 Han letters and 2 words
        "この古い橋は春からすべての車両が通行止めになっています。",
        "그 오래된 다리는 지난 봄부터 모든 차량의 통행이 금지되었다.",
        "Старый мост был закрыт для всего движения прошлой весной.",
        "Γιατί έκλεισε η παλιά γέφυρα για όλη την κυκλοφορία;",
        "لماذا أغلق الجسر القديم أمام حركة المرور كلها؟",
        "پرانا پل پچھلے سال سے ہر گاڑی کے لیے بند ہے۔",
        "पुराना पुल पिछले साल से सभी गाड़ियों के लिए बंद है।",
        "Հին կամուրջը փակ է բոլոր մեքենաների համար այս գարնանից։",
    ],
)
def test_sentences_stay(line: str) -> None:
    assert keep(line) == line


@pytest.mark.parametrize(
    "line",
    [
        "The bridge was closed in the spring.",  # 7 words
        "这座老桥从春天起不通行。",  # 11 letters
        "The old bridge was closed to all traffic in spring",
        "The bridge was closed to all kinds of traffic:",
        "这座老桥从春天起就禁止一切车辆通行",
        "这座老桥从春天起就禁止下列车辆通行：",
        "Home | News | Sport | Weather | Travel | Culture | Shop | More...",
        "Home > Science > Physics > Optics > Lenses > Cameras > Old > Prices.",
        'std::cout << "the old bridge was closed to all traffic" << std::endl;',
        "for (i = 0; i < n; i++) { a[i] += b[i] * c[i]; d[i] = '.'; } // e.",
        "DROP TABLE [ IF EXISTS ] name [, ...] [ CASCADE | RESTRICT ] [ NOW ] [...]",
        "Version 2.6.18 of the old bridge between the two towns 3.5",
        "สะพานเก่าปิดแล้ว ดูข่าวอื่น",  # no sentence end in Thai, so it has to be long
        "ดู bridge closed to all traffic in spring and in summer and autumn and winter too",
        "………………………………………………………………。",
        "",
    ],
)
def test_other_lines_go(line: str) -> None:
    assert keep(line) == ""


def test_lines_are_kept_as_they_are_with_paragraphs_between() -> None:
    first, second, third = (f"  The bridge number {n} was closed to all traffic. \r" for n in "123")
    text = f"Home\n\n{first}\n{second}\nmenu\n \n\t\n\n menu\n\n{third}\nHome\n"
    assert keep(text) == f"{first}\n{second}\n\n{third}"


def test_null_stays_null_and_types_stay() -> None:
    texts = pa.array(["padding", None, "menu", "", "这座老桥从春天起禁止通行了。"], pa.large_string())[1:]
    expected = [None, "", "", "这座老桥从春天起禁止通行了。"]
    assert prose.prose_lines(texts) == pa.array(expected, pa.large_string())


@pytest.mark.parametrize("language", UDHR)
def test_articles_stay_and_headings_go(language: str) -> None:
    lines = UDHR[language].split("\n")
    kept = keep(UDHR[language]).split("\n")
    assert kept[-1] == lines[-1]  # the last article; the Thai ones end without a mark
    assert lines[0] not in kept


lines = st.sampled_from(
    [
        "The old bridge was closed to all traffic in spring.",
        "这座老桥从春天起禁止通行了。",
        "Home",
        "",
        " ",
        "a | b",
    ]
) | st.text(max_size=40)
texts = st.none() | st.lists(lines, max_size=8).map("\n".join)


@settings(deadline=None, max_examples=100)
@given(st.lists(texts, max_size=5), st.integers(0, 5))
def test_a_line_is_judged_alone(documents: list[str | None], cut: int) -> None:
    array = pa.array(["padding", *documents], pa.string())[1:]
    whole = prose.prose_lines(array)
    assert pa.chunked_array([prose.prose_lines(array[:cut]), prose.prose_lines(array[cut:])]).combine_chunks() == whole
    assert prose.prose_lines(whole) == whole
    for text, kept in zip(documents, whole.to_pylist(), strict=True):
        expected = [line for line in (text or "").split("\n") if keep(line)]
        assert [line for line in (kept or "").split("\n") if line] == expected


def test_long_lines_take_linear_time() -> None:
    hostile = ["ab. " * 10**5 + "x", "." + ")" * 10**6 + "x", "." + " " * 10**5 + "x", ".) " * 10**5 + "x"]
    assert prose.prose_lines(pa.array(hostile)).to_pylist() == [""] * 4


def test_output_changes_only_with_the_stage_version() -> None:
    kept = prose.prose_lines(pa.array(list(UDHR.values()))).to_pylist()
    digest = hashlib.sha256("\n".join(kept).encode()).hexdigest()
    assert (prose.STAGE_VERSION, digest[:16]) == (1, "f7a7f587ac344bb1")
