"""bench/grouping.py writes what it says: the same documents however they are cut, with the copies that it promises."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

N_DOCS = 1_000_000


@pytest.fixture
def grouping(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which imports its neighbours as scripts do."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    return importlib.import_module("grouping")


def test_documents_are_what_the_head_of_the_file_says(grouping: ModuleType) -> None:
    docs = np.arange(20_000, dtype=np.uint64)
    version, kind = grouping._kinds(docs, N_DOCS)
    shares = np.bincount(kind, minlength=4) / docs.size
    assert shares == pytest.approx([0.1, 0.9 * 0.01, 0.9 * 0.3, 0.9 * 0.69], rel=0.2)
    rows = grouping.sig8(docs, N_DOCS)
    assert (rows[8_000:9_000] == grouping.sig8(docs[8_000:9_000], N_DOCS)).all()
    hot = rows[kind == 1]
    assert (hot[:, :8] == hot[0, :8]).all() and len(np.unique(hot[:, 8:], axis=0)) == len(hot)
    order = np.argsort(version[kind == 0])
    gaps = np.diff(version[kind == 0][order]).astype(int)
    alike = (rows[kind == 0][order][1:] == rows[kind == 0][order][:-1]).mean(axis=1)
    assert alike == pytest.approx(np.clip(1 - gaps / grouping.PERIOD, 0, 1), abs=0.1)


def test_near_duplicates_share_bytes_with_an_original(grouping: ModuleType) -> None:
    few = 300_000
    docs = np.arange(few, dtype=np.uint64)
    _, kind = grouping._kinds(docs, few)
    near = docs[kind == 2][:300]
    copies = grouping.sig8(near, few)
    originals = grouping.sig8(docs[kind == 3], few)
    first = {row[:2].tobytes(): [] for row in copies}
    for row in originals:
        if row[:2].tobytes() in first:
            first[row[:2].tobytes()].append(row)
    best = [max(((row == other).mean() for other in first[row[:2].tobytes()]), default=0) for row in copies]
    assert 150 < sum(share > 0.6 for share in best) < 300, "the others have lost one of the first two bytes"


def test_the_job_of_a_small_folder(grouping: ModuleType, tmp_path: Path) -> None:
    grouping.write(tmp_path, 12_000)
    result = grouping.run(tmp_path)
    assert sum(result["counts"][name] for name in ("kept", "duplicates")) == 12_000
    assert result["counts"]["duplicate_near"] > 10_000, "all are versions of one page"
    assert result["peak_mb"] > 0
