"""The demo that the repository ships: what it keeps, what it leaves out, and that no copy crosses the splits."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from scipy.sparse import csr_array

from corpusmill.pipeline.run import RunReport, run
from corpusmill.pipeline.stages import signatures
from corpusmill.pipeline.stages.signatures import MinHashSettings
from corpusmill.schemas.recipe_file import load_recipe
from tests.reference.shingles import shingles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunReport, Path]:
    """The demo with a third of the documents held out, so that there are many pairs across the splits."""
    out = tmp_path_factory.mktemp("demo") / "run"
    recipe = load_recipe(
        ROOT / "recipes" / "demo.yaml", ["shards.splits.validation=0.3", "tokenizer.train.vocab_size=600"]
    )
    return run(recipe, str(out)), out


def test_the_demo_keeps_english_and_chinese_and_shows_the_others(demo: tuple[RunReport, Path]) -> None:
    report, _ = demo
    kept = {language: ends.get("kept", 0) for language, ends in report.books["languages"].items()}
    assert kept["en"] > 250
    assert kept["zh-Hans"] + kept["zh-Hant"] > 250
    others = {language: ends for language, ends in report.books["languages"].items() if not kept[language]}
    assert len(others) == 4
    assert sum(ends["language"] for ends in others.values()) >= 95, "they were read, extracted and identified"


def test_chinese_documents_hold_no_paragraphs_of_the_english_original(demo: tuple[RunReport, Path]) -> None:
    _, out = demo
    rows = ds.dataset(out / "dataset/data").to_table(columns=["language", "text"]).to_pylist()
    lines = [line for row in rows if row["language"].startswith("zh") for line in row["text"].split("\n") if line]
    assert len(lines) > 4000
    assert [line for line in lines if not re.search("[\u4e00-\u9fff]", line)] == []


def test_the_demo_s_data_is_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "recipes/demo").iterdir() if path.is_file()) < 12_000_000


def test_pairs_across_the_splits_are_misses_of_the_bands(demo: tuple[RunReport, Path]) -> None:
    _, out = demo
    rows = ds.dataset(out / "dataset/data").to_table(columns=["id", "text", "cluster_size"])
    names = [Path(f.path).name for f in ds.dataset(out / "dataset/data").get_fragments() for _ in range(f.count_rows())]
    held_out = np.array([name.startswith("validation") for name in names])
    assert held_out.sum() > 100
    similar = exact_jaccard(rows.column("text").to_pylist(), held_out)
    bands = signatures.band_keys(
        signatures.signatures(rows.column("text").combine_chunks(), MinHashSettings()), MinHashSettings()
    )
    found = [(float(j), int(a), int(b)) for j, a, b in similar if j >= 0.75]
    print(f"{len(found)} pairs of J >= .75 across the splits:", sorted(found, reverse=True))
    for j, a, b in found:
        assert not (bands[a] == bands[b]).any(), "a pair that shares a band is in one component, hence in one split"
        assert j < 0.85, f"documents {a} and {b} are copies: {j}"


def exact_jaccard(texts: list[str], held_out: np.ndarray) -> list[tuple[float, int, int]]:
    """(J, row, row) of all pairs across the splits, from the shingle sets themselves."""
    numbers: dict[object, int] = {}
    columns: list[int] = []
    starts = [0]
    for text in texts:
        columns += sorted({numbers.setdefault(shingle, len(numbers)) for shingle in shingles(text, 5)})
        starts.append(len(columns))
    sets = csr_array((np.ones(len(columns), np.int32), columns, starts), shape=(len(texts), len(numbers)))
    sizes = np.array([end - start for start, end in pairwise(starts)])
    left, right = np.flatnonzero(held_out), np.flatnonzero(~held_out)
    common = (sets[left] @ sets[right].T).tocoo()
    union = sizes[left[common.row]] + sizes[right[common.col]] - common.data
    return [(j, left[a], right[b]) for j, a, b in zip(common.data / union, common.row, common.col, strict=True)]
