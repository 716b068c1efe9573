"""Which documents the rules keep: bounds, languages, order, the preset's numbers, and Chinese manuals."""

import gzip
import hashlib
import json
import math
import random
from pathlib import Path

import pyarrow as pa
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.extract.html2text import extract_plain_text

from corpusmill.pipeline.stages.quality import SCHEMA, SIGNALS, signals
from corpusmill.pipeline.stages.rules import PRESETS, STAGE_VERSION, VERDICTS, Rule, preset, verdicts

GOPHER = PRESETS["gopher"]


def table(*rows: dict[str, float | None]) -> pa.RecordBatch:
    """Signals of pages that no rule drops but for the given values."""
    good = {signal.name: 0 for signal in SIGNALS} | {
        "n_words": 50,
        "n_english_words": 50,
        "mean_word_length": 5,
        "alpha_word_ratio": 1,
        "stop_words": 2,
    }
    return pa.RecordBatch.from_pylist([good | row for row in rows], schema=SCHEMA)


def decide(row: dict[str, float | None], language: str | None = "en", rules: tuple[Rule, ...] = GOPHER) -> tuple:
    """Reason, value and threshold, all None for a document that stays."""
    (verdict,) = verdicts(table(row), pa.array([language], pa.string()), rules).to_pylist()
    assert verdict["keep"] == (verdict["reason"] is None)
    return verdict["reason"], verdict["value"], verdict["threshold"]


KEPT = (None, None, None)


@pytest.mark.parametrize(
    ("signal", "allowed", "refused", "reason"),
    [
        ("n_words", 50, 49, "gopher_short_doc"),
        ("n_english_words", 100_000, 100_001, "gopher_long_doc"),
        ("mean_word_length", 3, 2.999999, "gopher_short_words"),
        ("mean_word_length", 10, 10.000001, "gopher_long_words"),
        ("symbol_word_ratio", 0.1, 0.100001, "gopher_symbol_word_ratio"),
        ("ellipsis_word_ratio", 0.1, 0.100001, "gopher_ellipsis_word_ratio"),
        ("bullet_line_ratio", 0.9, 0.900001, "gopher_bullet_line_ratio"),
        ("ellipsis_line_ratio", 0.3, 0.300001, "gopher_ellipsis_line_ratio"),
        ("alpha_word_ratio", 0.8, 0.799999, "gopher_alpha_word_ratio"),
        ("stop_words", 2, 1, "gopher_stop_words"),
        ("dup_line_frac", 0.3, 0.300001, "gopher_dup_line_frac"),
        ("dup_para_frac", 0.3, 0.300001, "gopher_dup_para_frac"),
        ("dup_line_char_frac", 0.2, 0.200001, "gopher_dup_line_char_frac"),
        ("dup_para_char_frac", 0.2, 0.200001, "gopher_dup_para_char_frac"),
        ("top_2_gram", 0.2, 0.200001, "gopher_top_2_gram"),
        ("top_3_gram", 0.18, 0.180001, "gopher_top_3_gram"),
        ("top_4_gram", 0.16, 0.160001, "gopher_top_4_gram"),
        ("dup_5_gram", 0.15, 0.150001, "gopher_dup_5_gram"),
        ("dup_6_gram", 0.14, 0.140001, "gopher_dup_6_gram"),
        ("dup_7_gram", 0.13, 0.130001, "gopher_dup_7_gram"),
        ("dup_8_gram", 0.12, 0.120001, "gopher_dup_8_gram"),
        ("dup_9_gram", 0.11, 0.110001, "gopher_dup_9_gram"),
        ("dup_10_gram", 0.1, 0.100001, "gopher_dup_10_gram"),
    ],
)
def test_gopher_keeps_the_threshold_itself(signal: str, allowed: float, refused: float, reason: str) -> None:
    assert decide({signal: allowed}) == KEPT
    assert decide({signal: refused}) == (reason, refused, allowed)


def test_gopher_has_no_other_rules() -> None:
    names = [rule.name for rule in GOPHER]
    assert len(names) == len(set(names)) == 23
    assert {rule.name for rule in GOPHER if rule.languages} == {
        "gopher_short_words",
        "gopher_long_words",
        "gopher_stop_words",
    }


@pytest.mark.parametrize(
    ("language", "verdict"),
    [
        ("en", ("gopher_short_words", 1.0, 3.0)),
        ("en-GB", ("gopher_short_words", 1.0, 3.0)),
        ("EN", ("gopher_short_words", 1.0, 3.0)),
        ("zh-Hans", KEPT),
        ("enm", KEPT),
        (None, KEPT),
    ],
)
def test_word_length_and_stop_words_are_for_english(language: str | None, verdict: tuple) -> None:
    assert decide({"mean_word_length": 1, "stop_words": 0}, language) == verdict


def test_languages_go_by_their_primary_subtag() -> None:
    rule = Rule(name="zh_long", signal="n_words", maximum=10, languages=frozenset({"zh", "ja"}))
    decided = verdicts(table({}, {}, {}, {}), pa.array(["zh-Hans", "ja", "en", None]), [rule])
    assert decided["reason"].to_pylist() == ["zh_long", "zh_long", None, None]


def test_the_first_rule_in_order_is_the_reason() -> None:
    row = {"n_words": 3, "top_3_gram": 0.5}
    assert decide(row) == ("gopher_short_doc", 3.0, 50.0)
    assert decide(row, rules=GOPHER[::-1]) == ("gopher_top_3_gram", 0.5, 0.18)


def test_a_value_that_is_not_there_drops_nothing() -> None:
    assert decide({"stop_words": None, "top_3_gram": None}) == KEPT


def test_no_rules_and_no_documents() -> None:
    assert decide({"n_words": 0}, rules=preset("none")) == KEPT
    empty = verdicts(table(), pa.array([], pa.string()), GOPHER)
    assert (empty.num_rows, empty.schema) == (0, VERDICTS)


def test_one_rule_may_have_two_bounds() -> None:
    rule = Rule(name="length", signal="n_words", minimum=10, maximum=20)
    assert [decide({"n_words": n}, rules=(rule,)) for n in (9, 10, 20, 21)] == [
        ("length", 9.0, 10.0),
        KEPT,
        KEPT,
        ("length", 21.0, 20.0),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"signal": "top_2gram", "maximum": 0.2}, "'top_2gram' is no signal of rule r; did you mean top_2_gram or"),
        ({"signal": "n_words"}, "rule r has no bound"),
        ({"signal": "n_words", "minimum": math.nan}, "thresholds are numbers"),
        ({"signal": "n_words", "minimum": 1, "languages": frozenset()}, "has no languages"),
        ({"signal": "n_words", "minimum": 1, "languages": frozenset({"zh-Hans"})}, "'zh-Hans' .* write 'zh'"),
        ({"signal": "n_words", "minimum": 1, "languages": frozenset({"eng"})}, "'eng' .* write 'en'"),
    ],
)
def test_a_rule_that_can_never_fire_is_an_error(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(name="r", **fields)


def test_thresholds_of_a_preset_can_be_moved() -> None:
    moved = preset("gopher", {"gopher_short_doc": 10, "gopher_top_3_gram": 0.5})
    assert [rule.name for rule in moved] == [rule.name for rule in GOPHER]
    assert decide({"n_words": 10, "top_3_gram": 0.5}, rules=moved) == KEPT
    assert decide({"n_words": 9}, rules=moved) == ("gopher_short_doc", 9.0, 10.0)
    assert preset("gopher") == GOPHER
    assert all(None in (rule.minimum, rule.maximum) for rules in PRESETS.values() for rule in rules)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'goffer' is no quality preset; did you mean gopher"):
        preset("goffer")
    with pytest.raises(ValueError, match="did you mean gopher_top_3_gram"):
        preset("gopher", {"gopher_top_3gram": 0.5})
    with pytest.raises(ValueError, match="did you mean n_words"):
        verdicts(table().select(["n_words"]), pa.array([], pa.string()), GOPHER)
    with pytest.raises(ValueError, match="1 rows of signals but 2 languages"):
        verdicts(table({}), pa.array(["en", "zh"]), GOPHER)


def plain(row: dict[str, float | None], language: str | None, rules: list[Rule]) -> dict:
    """The verdict on one document, rule by rule."""
    for rule in rules:
        if rule.languages is not None and (language or "").split("-")[0].lower() not in rule.languages:
            continue
        value = row[rule.signal]
        for bound, is_missed in ((rule.minimum, float.__lt__), (rule.maximum, float.__gt__)):
            if value is not None and bound is not None and is_missed(float(value), float(bound)):
                return {"keep": False, "reason": rule.name, "value": value, "threshold": bound}
    return {"keep": True, "reason": None, "value": None, "threshold": None}


grid = st.sampled_from([None, 0, 0.1, 0.2, 0.3])
rows = st.tuples(
    st.fixed_dictionaries({"top_2_gram": grid, "dup_5_gram": grid}), st.sampled_from([None, "en", "zh-Hant"])
)
rule_lists = st.lists(
    st.builds(
        Rule,
        name=st.sampled_from(["a", "b", "c"]),
        signal=st.sampled_from(["top_2_gram", "dup_5_gram"]),
        minimum=st.none() | st.sampled_from([0.1, 0.2]),
        maximum=st.sampled_from([0.1, 0.2]),
        languages=st.sampled_from([None, frozenset({"zh"})]),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=100)
@given(st.lists(rows, max_size=8), rule_lists, st.integers(0, 8))
def test_verdicts_equal_a_plain_loop_whatever_the_batch(
    documents: list[tuple[dict[str, float | None], str | None]], rules: list[Rule], cut: int
) -> None:
    batch = table({}, *(row for row, _ in documents)).slice(1)
    languages = pa.array(["xx", *(language for _, language in documents)], pa.string()).slice(1)
    whole = verdicts(batch, languages, rules)
    assert whole.to_pylist() == [plain(row, language, rules) for row, language in documents]
    parts = [verdicts(batch[part], languages[part], rules) for part in (slice(cut), slice(cut, None))]
    assert pa.Table.from_batches(parts).to_pylist() == whole.to_pylist()


CHINESE = (
    "清晨的集市已经热闹起来，卖豆腐的老人推着小车从巷口经过，孩子们背着书包跑向学校。河边的柳树刚刚发芽，"
    "几只白鹭停在浅水里，远处传来钟声。茶馆里的人一边下棋，一边谈论今年的收成。"
)


def test_fifty_han_letters_are_long_enough() -> None:
    letters = "".join(character for character in CHINESE if character.isalpha())
    batch = signals(pa.array([letters[:49], letters[:50], CHINESE]), languages=None)
    decided = verdicts(batch, pa.array(["zh-Hans"] * 3), GOPHER)
    assert decided["reason"].to_pylist() == ["gopher_short_doc", None, None]


def test_repeated_chinese_is_dropped() -> None:
    batch = signals(pa.array([CHINESE * 2]), languages=None)
    (verdict,) = verdicts(batch, pa.array(["zh-Hans"]), GOPHER).to_pylist()
    assert verdict == {"keep": False, "reason": "gopher_dup_5_gram", "value": 0.5, "threshold": 0.15}


def test_output_changes_only_with_the_stage_version() -> None:
    number = random.Random(0).random
    pages = [{name: round(number() * 0.4, 3) for name in SCHEMA.names[9:]} for _ in range(1000)]
    decided = verdicts(table(*pages), pa.array(["en", "zh-Hant"] * 500), GOPHER)
    digest = hashlib.sha256(json.dumps(decided.to_pylist()).encode()).hexdigest()
    assert (STAGE_VERSION, digest[:16]) == (1, "ca1d5aa20d092b4e")


def manuals(folder: Path) -> dict[str, dict[tuple[str, str], str]]:
    """Texts of the Debian installation guide, reference and FAQ by language, manual and page."""
    packages = {
        **{f"debian-{name}": name for name in ("faq", "faq-zh-cn", "faq-ja")},
        **{f"debian-reference-{name}": "reference" for name in ("en", "zh-cn", "zh-tw", "ja")},
        **{f"installation-guide-{name}": "guide" for name in ("amd64", "zh")},
    }
    pages: dict[str, tuple[str, tuple[str, str]]] = {}
    for line in gzip.decompress((folder / "dev.manifest.jsonl.gz").read_bytes()).splitlines():
        page = json.loads(line)
        language = page["lang"].lower().replace("zh-cn", "zh")
        if page["package"] in packages and language in ("en", "zh", "zh-tw", "ja"):
            manual = packages[page["package"]].split("-")[0]
            pages[page["uri"]] = language, (manual, Path(page["path"]).name.split(".")[0])
    texts: dict[str, dict[tuple[str, str], str]] = {"en": {}, "zh": {}, "zh-tw": {}, "ja": {}}
    for shard in sorted(folder.glob("dev-*.warc.gz")):
        for record in ArchiveIterator(str(shard), record_types=WarcRecordType.response, auto_decode="all"):
            language, page = pages.get(record.headers["WARC-Target-URI"], (None, None))
            if language is not None:
                html = record.reader.read().decode("utf-8", "replace")
                texts[language][page] = extract_plain_text(html, main_content=True)
    return texts


def test_translated_manuals_are_dropped_no_more_than_english_ones(shared_data: Path) -> None:
    texts = manuals(shared_data / "crawl")
    repetition = [rule for rule in GOPHER if rule.signal.startswith(("top_", "dup_"))]
    for language, least, margin in (("zh", 80, 0.02), ("zh-tw", 15, 0.0), ("ja", 60, 0.06)):
        shared = sorted(texts[language].keys() & texts["en"].keys())
        assert len(shared) >= least
        dropped = {}
        for version in (language, "en"):
            batch = signals(pa.array([texts[version][page] for page in shared]), languages=None)
            decided = verdicts(batch, pa.array([version] * len(shared)), repetition)
            dropped[version] = 1 - sum(decided["keep"].to_pylist()) / len(shared)
        assert dropped[language] <= dropped["en"] + margin, (language, dropped)
