"""The tokenizer: lossless, deterministic, and deaf to special strings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from corpusmill.pipeline.jobs.tokenizer import _pieces, check_tokenizer_file, train_bpe
from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json, special_ids
from tests.corpus import prose

TEXTS = prose("en") + prose("zh")


@pytest.fixture(scope="module")
def trained() -> bytes:
    return train_bpe(iter(TEXTS), 1200)


def test_special_tokens_have_the_first_ids(trained: bytes) -> None:
    tokenizer = from_json(trained)
    assert special_ids(tokenizer) == {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    assert len(SPECIAL_TOKENS) == 9 + 100 + 16
    assert SPECIAL_TOKENS[:4] == ("<pad>", "<eos>", "<bos>", "<unk>")
    assert tokenizer.get_vocab_size() == 1200


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from([*SPECIAL_TOKENS[:12], "<|endoftext|>", " ", "中", "a"])).map("".join))
def test_decoding_gives_the_text_back_and_nothing_is_special(trained: bytes, text: str) -> None:
    tokenizer = from_json(trained)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(i >= len(SPECIAL_TOKENS) for i in ids)


def test_the_order_of_texts_and_the_number_of_threads_do_not_matter(trained: bytes) -> None:
    assert train_bpe(iter(TEXTS[::-1]), 1200) == trained
    code = (
        "import sys, hashlib; from corpusmill.pipeline.jobs.tokenizer import train_bpe; from tests.corpus import prose\n"
        "sys.stdout.buffer.write(train_bpe(iter(prose('en') + prose('zh')), 1200))"
    )
    for threads in ("1", "4"):
        env = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[3])}
        assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout == trained


def test_a_run_longer_than_any_word_is_cut_before_training() -> None:
    """Training is quadratic in the length of a run: 100,000 letters took 4 s, 200,000 took 17 s."""
    for text in ("x" * 1000, "中" * 700 + "。", "a" + "\u0301" * 600, " " * 600 + "b", "12" * 400, "short words only"):
        pieces = list(_pieces(text))
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= 258
    assert len(list(_pieces(" ".join(TEXTS)))) == 1, "real prose is not cut"


def recipe(path: Path, eos: str = "<eos>") -> Recipe:
    source = {"kind": "jsonl", "name": "a", "paths": ["x"]}
    return Recipe.model_validate({"sources": [source], "tokenizer": {"path": str(path), "eos": eos}})


def test_a_tokenizer_that_cannot_work_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tokenizer.path: .*No such file"):
        check_tokenizer_file(recipe(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(RecipeError, match="not a tokenizer.json"):
        check_tokenizer_file(recipe(tmp_path / "bad.json"))
    other = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    other.add_special_tokens(["<|endoftext|>"])
    other.save(str(tmp_path / "other.json"))
    with pytest.raises(RecipeError, match=r"tokenizer.eos: '<eos>' is not a special token .* of: <\|endoftext\|>"):
        check_tokenizer_file(recipe(tmp_path / "other.json"))
    check_tokenizer_file(recipe(tmp_path / "other.json", eos="<|endoftext|>"))
