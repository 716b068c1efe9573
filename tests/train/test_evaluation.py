"""Bits per byte: exact where they can be worked out by hand, else as a token-by-token oracle counts them."""

import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.evaluation import COLUMNS, Evaluation, Score, evaluate, print_evaluation, windows
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder, init_weights
from tests.corpus import prose
from tests.reference.bits import nats_of
from tests.train.corpus import EOS, Document, small_dataset, small_documents

VOCABULARY = 40
FIRST_BYTE = 125
"""Of `byte_tokenizer`: the ids below are special tokens."""


def batches(
    rows: Sequence[tuple[Sequence[int], int, str, str]], *, size: int = 3, dtype: pa.DataType | None = None
) -> Iterator[pa.RecordBatch]:
    """(tokens, bytes, language, source) as a dataset's documents arrive."""
    ids = pa.list_(pa.field("element", dtype or pa.uint16(), nullable=False))
    types = {"input_ids": ids, "n_bytes": pa.int64(), "language": pa.string(), "source": pa.string()}
    for start in range(0, len(rows), size):
        columns = zip(*rows[start : start + size], strict=True)
        yield pa.RecordBatch.from_arrays(
            [pa.array(c, t) for c, t in zip(columns, types.values(), strict=True)], [*types]
        )


def of_text(document: Document) -> tuple[list[int], int, str, str]:
    """A document in tokens of one byte each; which id stands for which byte does not matter here."""
    data = document.text.encode()
    return [FIRST_BYTE + byte for byte in data], len(data), document.language, document.source


def uniform_over_bytes(ids: Tensor) -> Tensor:
    logits = torch.full((*ids.shape, FIRST_BYTE + 256), -math.inf, dtype=torch.float64)
    logits[..., FIRST_BYTE:] = 0.0
    return logits


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Small enough for the oracle, in float64 so that only mistakes make a difference, and far from uniform."""
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 32, "max_length": 16}
    decoder = Decoder(ModelConfig(vocab_size=VOCABULARY, **sizes))
    init_weights(decoder, 0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    return decoder.double()


def random_rows(lengths: Sequence[int]) -> list[tuple[list[int], int, str, str]]:
    rng = np.random.default_rng(7)
    return [(rng.integers(0, VOCABULARY, n).tolist(), 2 * n, f"l{i % 3}", f"s{i % 2}") for i, n in enumerate(lengths)]


def test_a_uniform_byte_model_has_8_bits_a_byte_in_every_language() -> None:
    rows = [of_text(document) for document in small_documents(24)]
    rows += [of_text(Document(text=text, language="en", source="long")) for text in ("\n".join(prose("en")),)]
    rows += [of_text(Document(text=text, language="zh-Hans", source="long")) for text in ("\n".join(prose("zh")),)]
    result = evaluate(uniform_over_bytes, batches(rows), sequence_length=128, eos=EOS)
    assert result.total.n_bytes == result.total.n_tokens == sum(n for _, n, _, _ in rows)
    assert set(result.languages) == {"en", "zh-Hans"}
    assert set(result.sources) == {"enprose", "zhprose", "long"}
    for score in (result.total, *result.languages.values(), *result.sources.values()):
        assert score.bits_per_byte == pytest.approx(8, abs=1e-12)
        assert score.loss == pytest.approx(math.log(256))
        assert score.perplexity == pytest.approx(256)


def test_the_documents_of_a_dataset_are_scored(tmp_path: Path) -> None:
    small_dataset(tmp_path / "dataset", documents=30)
    dataset = TokenDataset.open(str(tmp_path / "dataset"), split="validation", cache=tmp_path / "cache")
    result = evaluate(uniform_over_bytes, dataset.documents(COLUMNS), sequence_length=64, eos=dataset.eos)
    held_out = [document for document in small_documents(30) if document.split == "validation"]
    assert result.total.n_documents == len(held_out) == 6
    assert result.total.n_bytes == sum(len(document.text.encode()) for document in held_out)
    for score in (result.total, *result.languages.values(), *result.sources.values()):
        assert score.bits_per_byte == pytest.approx(8, abs=1e-12)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 64])
def test_nats_are_those_of_the_definition(decoder: Decoder, length: int) -> None:
    rows = random_rows([0, 1, 3, 4, 5, 8, 9, 17, 30])
    result = evaluate(decoder, batches(rows), sequence_length=length, eos=EOS)
    expected = [sum(nats_of(decoder, tokens, length, EOS)) for tokens, *_ in rows]
    assert result.total.nats == pytest.approx(sum(expected), rel=1e-9)
    for i in range(3):
        assert result.languages[f"l{i}"].nats == pytest.approx(sum(expected[i::3]), rel=1e-9)
    for i in range(2):
        assert result.sources[f"s{i}"].nats == pytest.approx(sum(expected[i::2]), rel=1e-9)
    assert result.total.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / (2 * 77), rel=1e-9)


@pytest.mark.parametrize("batch_tokens", [1, 7, 40, 100_000])
def test_the_size_of_a_batch_changes_nothing(decoder: Decoder, batch_tokens: int) -> None:
    rows = random_rows(np.random.default_rng(1).integers(0, 40, 50).tolist())
    one = evaluate(decoder, batches(rows, size=1), sequence_length=8, eos=EOS)
    other = evaluate(decoder, batches(rows, size=50), sequence_length=8, eos=EOS, batch_tokens=batch_tokens)
    assert other.total.nats == pytest.approx(one.total.nats, rel=1e-9)
    for name, score in one.languages.items():
        assert other.languages[name].nats == pytest.approx(score.nats, rel=1e-9)
        assert other.languages[name].n_correct == score.n_correct


def test_a_batch_has_no_more_positions_than_allowed(decoder: Decoder) -> None:
    shapes: list[tuple[int, ...]] = []

    def model(ids: Tensor) -> Tensor:
        shapes.append(tuple(ids.shape))
        return decoder(ids)

    rows = random_rows([30, 3, 1, 1, 8, 5, 2])
    evaluate(model, batches(rows), sequence_length=8, eos=EOS, batch_tokens=20)
    assert all(n_rows * length <= 20 for n_rows, length in shapes)
    shapes.clear()
    evaluate(model, batches(rows), sequence_length=8, eos=EOS, batch_tokens=5)
    assert all(n_rows * length <= 5 or n_rows == 1 for n_rows, length in shapes)  # a long row is alone


@given(st.integers(0, 200), st.integers(1, 40))
def test_windows_score_each_token_once_with_half_a_window_before_it(n_tokens: int, length: int) -> None:
    scored = []
    for start, end, done in windows(n_tokens, length):
        assert start <= done < end <= start + length
        for token in range(done, end):
            n_known = token - start + 1  # inputs that its prediction sees, <eos> included
            assert n_known >= min(token + 1, length / 2)
        scored += range(done, end)
    assert scored == list(range(n_tokens))


def test_parts_add_up_to_the_whole(decoder: Decoder) -> None:
    rows = random_rows([5, 12, 0, 3, 9, 20, 7])
    whole = evaluate(decoder, batches(rows), sequence_length=8, eos=EOS)
    added = Evaluation()
    for part in (rows[:2], rows[2:3], rows[3:]):
        added.add(evaluate(decoder, batches(part), sequence_length=8, eos=EOS))
    assert (set(added.languages), set(added.sources)) == (set(whole.languages), set(whole.sources))
    for name, score in [("", whole.total), *whole.languages.items(), *whole.sources.items()]:
        found = (added.languages | added.sources | {"": added.total})[name]
        assert found.to_json() == pytest.approx(score.to_json(), rel=1e-9)
        assert found.n_correct == score.n_correct


def test_a_document_without_tokens_counts_as_a_document() -> None:
    rows = [([], 0, "en", "a"), ([FIRST_BYTE], 1, "en", "b")]
    result = evaluate(uniform_over_bytes, batches(rows), sequence_length=4, eos=EOS)
    assert (result.total.n_documents, result.total.n_tokens, result.total.n_bytes) == (2, 1, 1)
    assert result.total.bits_per_byte == pytest.approx(8)
    assert result.sources["a"].to_json() == {
        "n_documents": 1,
        "n_tokens": 0,
        "n_bytes": 0,
        "nats": 0.0,
        "bits_per_byte": None,
        "loss": None,
        "perplexity": None,
        "accuracy": None,
    }


def test_no_documents_no_scores() -> None:
    assert evaluate(uniform_over_bytes, batches([]), sequence_length=4, eos=EOS) == Evaluation()


def test_accuracy_is_the_share_of_tokens_that_were_most_probable() -> None:
    def same_again(ids: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(ids, 8).float()

    rows = [([3, 3, 3, 3, 5, 5], 6, "en", "a"), ([4], 1, "zh", "a")]
    result = evaluate(same_again, batches(rows), sequence_length=4, eos=EOS)
    assert result.languages["en"].accuracy == 4 / 6
    assert result.languages["zh"].accuracy == 0
    assert result.total.accuracy == 4 / 7


def test_slices_and_wide_ids_are_read(decoder: Decoder) -> None:
    rows = random_rows([4, 6, 2, 9])
    (batch,) = batches(rows, size=4, dtype=pa.uint32())
    sliced = evaluate(decoder, [batch.slice(1, 2)], sequence_length=8, eos=EOS)
    assert sliced == evaluate(decoder, batches(rows[1:3]), sequence_length=8, eos=EOS)


def test_progress_counts_every_token_once(decoder: Decoder) -> None:
    told: list[int] = []
    rows = random_rows([30, 3, 0, 12])
    evaluate(decoder, batches(rows), sequence_length=8, eos=EOS, batch_tokens=16, progress=told.append)
    assert sum(told) == 45
    assert len(told) > 3


def test_nats_of_a_model_in_bf16_are_computed_in_fp32() -> None:
    def model(ids: Tensor) -> Tensor:
        product = torch.ones(256, 4) @ torch.ones(4, 1)
        assert product.dtype == torch.bfloat16  # the model runs under autocast
        return product[:, 0].expand(*ids.shape, 256)

    result = evaluate(
        model, batches([([7] * 100, 100, "en", "a")]), sequence_length=8, eos=EOS, autocast=torch.bfloat16
    )
    assert result.total.bits_per_byte == pytest.approx(8, rel=1e-6)


def test_scoring_records_no_gradient(decoder: Decoder) -> None:
    def model(ids: Tensor) -> Tensor:
        logits = decoder(ids)
        assert not logits.requires_grad
        return logits

    evaluate(model, batches(random_rows([3])), sequence_length=8, eos=EOS)
    assert all(parameter.grad is None for parameter in decoder.parameters())


def test_json_and_table_tell_all_groups() -> None:
    evaluation = Evaluation(
        total=Score(n_documents=2, n_tokens=1000, n_bytes=2000, n_correct=250, nats=1000.0),
        languages={"zh-Hans": Score(n_documents=1, n_tokens=1000, n_bytes=2000, n_correct=250, nats=1000.0)},
        sources={"[wiki]": Score(n_documents=1)},
    )
    told = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert told["languages"]["zh-Hans"] == told["total"] | {"n_documents": 1}
    assert told["total"]["bits_per_byte"] == pytest.approx(0.5 / math.log(2))
    console = Console(file=io.StringIO(), width=120)
    print_evaluation(evaluation, console)
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ["all", "2", "1,000", "2,000", "0.7213", "1.0000", "2.72", "25.0%"]
    assert lines[2].split()[0] == "zh-Hans"
    assert lines[3].split() == ["[wiki]", "1", "0", "0", "nan", "nan", "nan", "nan%"]


def test_a_perplexity_beyond_a_double_is_infinite() -> None:
    assert Score(n_tokens=1, nats=1e6).perplexity == math.inf
    assert Score(n_tokens=1, nats=1e6).to_json()["perplexity"] is None
