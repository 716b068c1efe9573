"""bench/signing.py compares like with like: datasketch gets the shingles that the kernel hashes."""

import importlib
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from corpusmill.pipeline.stages.shingles import shingle_hashes
from tests.corpus import prose
from tests.reference import shingles as reference

TEXTS = {"en": prose("en")[0], "zh": prose("zh")[0], "short": "Two wörds.", "emoji": "a 😀 b", "empty": ""}


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which imports its neighbours as scripts do."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    return importlib.import_module("signing")


@pytest.mark.parametrize("name", TEXTS)
def test_shingles_of_python_are_those_of_the_kernel(signing: ModuleType, name: str) -> None:
    found = signing._shingles(TEXTS[name])
    tokens = reference.tokens(TEXTS[name])
    assert found == {" ".join(tokens[i : i + 5]).encode() for i in range(max(len(tokens) - 4, 1))}
    hashes, _ = shingle_hashes(pa.array([TEXTS[name]]), 5)
    assert len(found) == max(len(set(hashes.tolist())), 1)


def test_everyone_signs_every_byte(signing: ModuleType) -> None:
    texts = [TEXTS["en"], TEXTS["zh"]]
    n_bytes = sum(len(text.encode()) for text in texts)
    runs = signing.race(texts, 1, {})
    assert runs.keys() >= {"ours", "datasketch"}
    assert runs["ours"][0].tokens == signing._TIMES * n_bytes
    assert runs["datasketch"][0].tokens == n_bytes
