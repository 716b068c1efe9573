"""Signatures against datasketch itself, and which copies share which key."""

import gzip
import hashlib
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import opencc
import pyarrow as pa
import pytest
from datasketch import LeanMinHash, MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import minhash
from corpusmill.pipeline.stages.signatures import (
    STAGE_VERSION,
    MinHashSettings,
    band_keys,
    canonical_url,
    shingled,
    sig8,
    sig8_column,
    signatures,
    text_keys,
    to_datasketch,
    url_keys,
)
from tests.corpus import prose
from tests.pipeline.stages.alphabet import texts
from tests.reference import shingles as reference

ROOT = Path(__file__).parents[3]
ROWS = [json.loads(line) for line in (ROOT / "tests/data/udhr.jsonl").read_text().splitlines()]
UDHR = [row["text"] for row in ROWS]
TEXTS = {
    **{row["language"]: row["text"] for row in ROWS},
    **{"empty": "", "dots": "……。", "short": "短文", "word": "word", "emoji": "two 😀 words", "only emoji": "😀👍🏽"},
    **{"four bytes": "𠀀𠀁𠀂𠀃𠀄𠀅𠀆 𝐛𝐨𝐥𝐝", "repeated": "一二三四五六七八九十" * 3},
}
DEFAULT = MinHashSettings()


def sign(*texts: str | None, by: MinHashSettings = DEFAULT) -> np.ndarray:
    return signatures(pa.array(texts, pa.string()), by)


def datasketch(text: str, by: MinHashSettings = DEFAULT) -> MinHash:
    """The definition: datasketch fed item by item with the plain shingler's hashes."""
    sketch = MinHash(by.bands * by.rows, seed=by.seed, scheme="affine32", hashfunc=lambda shingle: shingle)
    for shingle in reference.shingles(text, by.ngram):
        sketch.update(shingle)
    return sketch


def shipped_texts() -> list[str]:
    """300 windows of English and Chinese prose, of which neighbours share most of their paragraphs."""
    pages = [prose(language) for language in ("en", "zh")]
    return ["\n".join(page[i : i + 8]) for page in pages for i in range(150)]


def shared_texts(shared: Path) -> list[str]:
    """700 licence files, Wikipedia revisions and edited paragraphs, Chinese and Japanese among them."""
    texts = []
    for name, keys in (("debian-copyright", "text"), ("wiki-revisions", "text"), ("synthetic-edits", "ab")):
        with gzip.open(shared / "neardup" / f"{name}.jsonl.gz", "rt") as lines:
            rows = [json.loads(line) for line in lines]
        for row in rows[:: len(rows) // 100]:
            texts += [row["text"][:3000]] if keys == "text" else [row[key] for key in keys]
    return texts


def equal_bands(one: np.ndarray, other: np.ndarray) -> int:
    keys = band_keys(np.stack([one, other]), DEFAULT)
    return int((keys[0] == keys[1]).sum())


@pytest.mark.parametrize("name", TEXTS)
def test_bits_equal_datasketch(name: str) -> None:
    for by in (DEFAULT, MinHashSettings(bands=3, rows=5, ngram=2, seed=7)):
        assert (sign(TEXTS[name], by=by)[0] == datasketch(TEXTS[name], by).hashvalues).all()


@settings(deadline=None, max_examples=50)
@given(texts, st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_bits_equal_datasketch_for_any_text_length_of_shingle_and_seed(text: str, ngram: int, seed: int) -> None:
    by = MinHashSettings(bands=3, rows=3, ngram=ngram, seed=seed)
    assert (sign("another", text, by=by)[1] == datasketch(text, by).hashvalues).all()


def test_golden_bytes() -> None:
    """If this fails, stored keys no longer match new ones: raise STAGE_VERSION, then pin the new digests."""
    texts = [*UDHR, None, "", "短文", "a" * 5000]
    column = pa.array(texts, pa.string())
    rows = signatures(column, DEFAULT)
    urls = pa.array(["http://例え.jp/%7euser?b=2&a=1&utm_source=x#top", None, "https://Example.com:443"])
    stored = {
        "signatures": rows.tobytes(),
        "bands": band_keys(rows, DEFAULT).tobytes(),
        "texts": b"".join(key or b"-" for key in text_keys(column).to_pylist()),
        "urls": b"".join(key or b"-" for key in url_keys(urls).to_pylist()),
        "settings": DEFAULT.digest.encode(),
    }
    digests = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in stored.items()}
    assert STAGE_VERSION == 1
    assert digests == {
        "signatures": "5f5e4539bc51df6e",
        "bands": "cdded1a6482228a2",
        "texts": "cff042359e4a6eb7",
        "urls": "bb46ede69b5c02f6",
        "settings": "dcf996761a5aa50a",
    }


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(len(UDHR))), st.integers(1, 5))
def test_neither_order_nor_batches_matter(order: list[int], batch: int) -> None:
    whole = sign(*UDHR)
    column = pa.array([UDHR[i] for i in order])
    parts = [signatures(column[start : start + batch], DEFAULT) for start in range(0, len(order), batch)]
    assert (np.concatenate(parts) == whole[order]).all()


@pytest.mark.parametrize("source", ["shipped", "shared"])
def test_bands_find_the_pairs_that_datasketch_finds(source: str, request: pytest.FixtureRequest) -> None:
    texts = shipped_texts() if source == "shipped" else shared_texts(request.getfixturevalue("shared_data"))
    rows = sign(*texts, "", None)
    lsh = MinHashLSH(num_perm=160, params=(20, 8))
    sketches = to_datasketch(rows, DEFAULT)
    has = shingled(rows)
    assert has.tolist() == [not sketch.is_empty() for sketch in sketches]
    for i in np.flatnonzero(has).tolist():
        lsh.insert(i, sketches[i])
    expected = {(i, j) for j, sketch in enumerate(sketches) for i in lsh.query(sketch) if i < j}
    keys = band_keys(rows, DEFAULT)
    members: dict[int, list[int]] = {}
    for i in np.flatnonzero(has).tolist():
        for key in keys[i].tolist():
            members.setdefault(key, []).append(i)
    assert {pair for same in members.values() for pair in combinations(same, 2)} == expected
    assert len(expected) > 100


def test_datasketch_takes_our_signatures() -> None:
    """They compare with those that datasketch makes, survive its serialisation, and can be updated there."""
    words = UDHR[0].split()
    texts = [" ".join(words), " ".join(words[len(words) // 3 :])]
    ours, theirs = to_datasketch(sign(*texts), DEFAULT), [datasketch(text) for text in texts]
    assert ours[0].jaccard(ours[1]) == theirs[0].jaccard(theirs[1]) == ours[0].jaccard(theirs[1])
    assert 0.3 < ours[0].jaccard(ours[1]) < 0.9
    stored = bytearray(ours[0].bytesize())
    ours[0].serialize(stored)
    assert LeanMinHash.deserialize(stored) == ours[0] == LeanMinHash(theirs[0])
    grown = MinHash(seed=ours[1].seed, hashvalues=ours[1].digest(), scheme=ours[1].scheme, hashfunc=lambda x: x)
    grown.update_batch(reference.shingles(texts[0], DEFAULT.ngram))
    union = MinHash.union(*theirs)
    assert (grown.hashvalues == union.hashvalues).all() and (grown.hashvalues != ours[1].hashvalues).any()


def test_objects_of_datasketch_do_not_follow_the_array() -> None:
    rows = sign("one two three")
    (sketch,) = to_datasketch(rows, DEFAULT)
    rows[:] = 0
    assert sketch == LeanMinHash(datasketch("one two three"))


@pytest.mark.parametrize("language", ["en", "zh_CN", "ja"])
def test_recall_on_edited_paragraphs(shared_data: Path, language: str) -> None:
    """Pairs of true similarity >= .8 share a band; expected .975 at .8 and more above."""
    with gzip.open(shared_data / "neardup/synthetic-edits.jsonl.gz", "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["lang"] == language]
    one, other = sign(*(row["a"] for row in rows)), sign(*(row["b"] for row in rows))
    a, b = ([set(reference.shingles(row[key], 5)) for row in rows] for key in "ab")
    true = np.array([len(x & y) / len(x | y) for x, y in zip(a, b, strict=True)])
    found = (band_keys(one, DEFAULT) == band_keys(other, DEFAULT)).any(axis=1)
    estimate = (sig8(one) == sig8(other)).mean(axis=1)
    assert (true >= 0.8).sum() > 50
    assert found[true >= 0.8].mean() >= 0.97
    assert np.sqrt(((estimate - true) ** 2).mean()) < 0.04


def test_simplified_and_traditional_copies_collide(shared_data: Path) -> None:
    to_traditional = opencc.OpenCC("s2t").convert
    with gzip.open(shared_data / "lid/lid.jsonl.gz", "rt") as lines:
        rows = map(json.loads, lines)
        texts = [row["text"] for row in rows if row["lang"] == "cmn_Hans" and "paragraph" in row["kind"]]
    copies = [to_traditional(text) for text in texts]
    changed = sum(text != copy for text, copy in zip(texts, copies, strict=True))
    one, other = sign(*texts), sign(*copies)
    estimate = (sig8(one) == sig8(other)).mean(axis=1)
    assert changed > 0.9 * len(texts)
    assert (estimate >= 0.75).mean() > 0.99
    assert estimate.mean() > 0.99


def test_a_document_without_shingles_matches_nothing() -> None:
    rows = sign("", None, "……", "短文")
    assert shingled(rows).tolist() == [False, False, False, True]
    column = sig8_column(rows)
    assert column.type == pa.binary(160)
    assert column.is_null().to_pylist() == [True, True, True, False]
    assert column[3].as_py() == (rows[3] & 0xFF).astype(np.uint8).tobytes()
    assert len(sign()) == 0 and len(sig8_column(sign())) == 0


def test_a_band_matches_as_a_whole_and_only_itself() -> None:
    row = sign(UDHR[0])[0]
    other = row.copy()
    other[::8] ^= 1  # one row of each band
    assert equal_bands(row, row) == 20 and equal_bands(row, other) == 0
    other = row.copy()
    other[:152] ^= 1
    assert equal_bands(row, other) == 1
    same = np.tile(row[:8], 20)  # equal rows in every band: the band number keeps the keys apart
    assert len(set(band_keys(same[None], DEFAULT)[0].tolist())) == 20


@pytest.mark.parametrize(
    "change", [{"bands": 0}, {"rows": 101}, {"ngram": 0}, {"seed": 2**32}, {"seed": -1}, {"threshold": 1.5}]
)
def test_settings_out_of_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        MinHashSettings(**change)


def test_digest_follows_what_shapes_a_signature() -> None:
    changes: list[dict] = [{"bands": 10}, {"rows": 4}, {"ngram": 3}, {"seed": 2}]
    assert len({replace(DEFAULT, **change).digest for change in [{}, *changes]}) == 5
    assert replace(DEFAULT, threshold=0.8).digest == DEFAULT.digest


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Hello, world!", "hello  WORLD", True),
        ("第一章：开始", "第一章 开始。", True),
        ("Python编程", "python 编程", True),
        ("café", "cafe", True),
        ("in 2024", "in 2025", False),
        ("共３种", "共3种", True),
        ("臺灣", "台湾", False),
        ("ab c", "a bc", False),
        ("x < 5", "x > 5", False),
        ("がんばる", "かんばる", False),
        ("👍", "👎", False),
    ],
)
def test_exact_duplicates(one: str, other: str, same: bool) -> None:
    keys = text_keys(pa.array(["skipped", one, other])[1:])
    assert keys.type == pa.binary(16) and keys.null_count == 0
    assert (keys[0] == keys[1]) is same


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | texts, max_size=5), st.integers(1, 30))
def test_text_keys_equal_the_plain_ones(documents: list[str | None], size: int) -> None:
    """However the codes of documents lie in the array through which they stream."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "_STREAM", size)
        keys = text_keys(pa.array(documents, pa.string())).to_pylist()
    assert keys == [reference.text_key(text or "") for text in documents]


def test_texts_without_tokens_have_no_key() -> None:
    assert text_keys(pa.array([None, "", " \n", "……！"], pa.large_string())).null_count == 4


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://Example.COM:443/A/b?b=2&a=1#top", "example.com/A/b?a=1&b=2"),
        ("http://example.com", "example.com/"),
        ("http://example.com:443/", "example.com:443/"),
        ("http://example.com./?utm_source=x&UTM_Medium=y&gclid=1", "example.com/"),
        ("https://detail.tmall.com/item.htm?spm=a1z10.1&id=5", "detail.tmall.com/item.htm?id=5"),
        ("https://example.com/?q=&q", "example.com/?q&q="),
        ("https://zh.wikipedia.org/wiki/中国", "zh.wikipedia.org/wiki/%E4%B8%AD%E5%9B%BD"),
        ("https://zh.wikipedia.org/wiki/%e4%b8%ad%e5%9b%bd", "zh.wikipedia.org/wiki/%E4%B8%AD%E5%9B%BD"),
        ("http://example.com/%7Euser/a%2fb", "example.com/~user/a%2Fb"),
        ("http://中文.com/", "xn--fiq228c.com/"),
        ("http://user:Pass@example.com/", "user:Pass@example.com/"),
        ("http://[::1]:8080/x", "[::1]:8080/x"),
        ("ftp://example.com/a", "ftp://example.com/a"),
        ("http://[broken/", "http://[broken/"),
        ("http://example.com:port/", "http://example.com:port/"),
        (" not a url ", "not a url"),
    ],
)
def test_canonical_url(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical


@settings(deadline=None, max_examples=100)
@given(st.text(), st.text("abc%41&=?utm_/é中#", max_size=20))
def test_canonical_url_takes_anything_and_is_stable(anything: str, rest: str) -> None:
    canonical_url(anything)
    once = canonical_url(f"https://example.com/{rest}")
    assert canonical_url(f"https://{once}") == once


def test_url_keys() -> None:
    urls = pa.array(["x", "http://a.com/?b&a", "https://A.com/?a&b", "https://a.com/", None, "  "])[1:]
    keys = url_keys(urls)
    assert keys.type == pa.binary(16)
    assert keys[0] == keys[1] != keys[2]
    assert keys.is_null().to_pylist() == [False, False, False, True, True]
