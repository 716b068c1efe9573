"""The language of a text as a BCP 47 tag with a score."""

import gzip
import hashlib
import json
import runpy
from collections import Counter
from pathlib import Path

import langcodes
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import language
from corpusmill.pipeline.stages.language import MODEL_SHA256, LanguageSettings, identify, model_digest
from corpusmill.pipeline.stages.unicode import normalise
from corpusmill.schemas.errors import UsageError
from corpusmill.schemas.recipe import language_tag

SETTINGS = LanguageSettings()
DATA = Path(language.__file__).resolve().parent.parent / "data"
UDHR = [json.loads(row) for row in (Path(__file__).parents[2] / "data/udhr.jsonl").read_text().splitlines()]


def one(text: str | None, settings: LanguageSettings = SETTINGS) -> tuple[str | None, float | None]:
    tags, scores = identify(pa.array([text], pa.string()), settings)
    return tags[0].as_py(), scores[0].as_py()


@pytest.mark.parametrize("row", UDHR, ids=lambda row: row["language"])
def test_the_declaration_of_human_rights(row: dict[str, str]) -> None:
    tag, score = one(row["text"])
    assert tag == row["language"]
    assert score is not None
    assert 0.5 < score <= 1
    assert score == round(score, 6)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("这座老桥从春天起禁止通行了。", "zh-Hans"),
        ("這座老橋從春天起禁止通行了。", "zh-Hant"),
        ("皇后在山里看白云。", "zh-Hans"),  # written alike in both: no evidence
        ("国国國國，一座大桥和一座大橋。", "zh-Hans"),  # as much evidence for either
        ("国國國，一座大橋，一座老橋。", "zh-Hant"),
        ("宏 打开 宏 对话框 宏", "zh-Hans"),  # the model says ja
        ("この古い橋は春から通行止めです。", "ja"),
        (
            "查看 https://www.example.org/the/old/bridge/was/closed.html，发邮件到the.old.bridge@example.org，谢谢。",
            "zh-Hans",
        ),
        ("1 2 3 4 5 … 2026-03-01 12:00:00 [0.5, 0.7]\n" * 20 + "The old bridge was closed to all traffic.", "en"),
        ("می\u200cخواهم این پل را ببینم، ولی بسته است.", "fa"),
    ],
)
def test_texts(text: str, tag: str) -> None:
    assert one(text)[0] == tag


@pytest.mark.parametrize(
    "text", ["", " \n", "12:30 -- 0.5 %", "😀😀", "https://example.org/a?b=c", "someone@example.org", "\u0301"]
)
def test_no_letters_no_language(text: str) -> None:
    assert one(text) == ("und", 0.0)


def test_null() -> None:
    assert one(None) == (None, None)


def test_only_the_first_letters_count() -> None:
    english = "The old bridge was closed to all traffic in spring. " * 20
    assert one(english + "这座老桥从春天起禁止通行了。" * 1000) == one(english)
    assert one("1" * 5000 + english) == ("und", 0.0)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.none() | st.sampled_from([row["text"] for row in UDHR] + ["", "12"]) | st.text(max_size=30),
        min_size=2,
        max_size=6,
    )
)
def test_a_slice_gives_the_same_rows(texts: list[str | None]) -> None:
    tags, scores = identify(pa.array(texts, pa.large_string()), SETTINGS)
    assert (tags.type, scores.type) == (pa.string(), pa.float64())
    part_tags, part_scores = identify(pa.array(texts, pa.string())[1:], SETTINGS)
    assert part_tags.equals(tags[1:])
    assert part_scores.equals(scores[1:])


def test_every_label_of_the_packaged_model_is_a_tag_that_recipes_can_name() -> None:
    _, tags = language._model(None)
    assert len(tags) == 176
    assert all(langcodes.Language.get(tag).is_valid() for tag in tags.values())
    changed = {label.removeprefix("__label__"): tag for label, tag in tags.items() if label != f"__label__{tag}"}
    assert changed == {
        "als": "gsw",  # the Alemannic Wikipedia; in BCP 47 als is Tosk Albanian
        "bcl": "bik",
        "bh": "bho",  # the Bihari Wikipedia is written in Bhojpuri
        "bxr": "bua",
        "diq": "zza",
        "eml": "egl",
        "mhr": "chm",
        "pnb": "lah",
        "sh": "sr-Latn",
        "tl": "fil",
    }
    assert {tag: language_tag(tag) for tag in tags.values() if language_tag(tag) != tag} == {"sr-Latn": "sr"}


def test_the_packaged_model_is_the_pinned_one() -> None:
    assert hashlib.sha256((DATA / "lid.176.ftz").read_bytes()).hexdigest() == MODEL_SHA256


def test_the_table_of_characters_is_what_its_script_builds() -> None:
    script = runpy.run_path(str(DATA / "build_han_table.py"))
    assert (DATA / "han-script.json").read_text(encoding="utf-8") == script["build"]()
    hans, hant = language._han_characters()
    assert not hans & hant
    assert set("国这说书门") <= hans
    assert set("國這說書門") <= hant
    assert not (hans | hant) & set("后里面干台云於著乾人大中")


@pytest.fixture
def own_model(tmp_path: Path) -> str:
    """The packaged model with labels in the manner of OpenLID and GlotLID; a label in the file ends with a zero."""
    content = (DATA / "lid.176.ftz").read_bytes()
    for code, label in {"en": "eng_Latn", "zh": "cmn_Hani", "ja": "jpn_Jpan", "ar": "arb_Arab"}.items():
        assert content.count(f"__label__{code}\0".encode()) == 1
        content = content.replace(f"__label__{code}\0".encode(), f"__label__{label}\0".encode())
    (tmp_path / "own.ftz").write_bytes(content)
    return str(tmp_path / "own.ftz")


def test_an_own_model(own_model: str) -> None:
    own = LanguageSettings(model=own_model)
    assert [one(row["text"], own)[0] for row in UDHR] == [row["language"] for row in UDHR]
    assert model_digest(own) != model_digest(SETTINGS)
    assert model_digest(own) == model_digest(LanguageSettings(model=own_model))


def test_a_model_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.bin' cannot be used: .*give the path of a fastText model"):
        one("x", LanguageSettings(model=str(tmp_path / "missing.bin")))
    with pytest.raises(UsageError, match=r"missing\.bin' cannot be read"):
        model_digest(LanguageSettings(model=str(tmp_path / "missing.bin")))
    content = (DATA / "lid.176.ftz").read_bytes().replace(b"__label__en\0", b"__label__positive_review\0")
    (tmp_path / "spam.ftz").write_bytes(content)
    with pytest.raises(UsageError, match="whose labels are language tags"):
        one("x", LanguageSettings(model=str(tmp_path / "spam.ftz")))
    (tmp_path / "text.bin").write_text("no model")
    with pytest.raises(UsageError, match="wrong file format"):
        one("x", LanguageSettings(model=str(tmp_path / "text.bin")))


def test_real_paragraphs(shared_data: Path) -> None:
    """Debian package descriptions in 24 languages, mixed with code and English names."""
    with gzip.open(shared_data / "lid" / "lid.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["kind"] in ("paragraph", "mixed-paragraph")]
    tags, _ = identify(normalise(pa.array([row["text"] for row in rows])), SETTINGS)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row, tag in zip(rows, tags.to_pylist(), strict=True):
        gold = language_tag(row["lang"])
        total[gold] += 1
        right[gold] += tag == gold
    assert right.total() / total.total() > 0.98
    for tag in ("zh-Hans", "zh-Hant", "ja", "ko", "en", "de", "fr"):
        assert (tag, right[tag]) == (tag, total[tag])
