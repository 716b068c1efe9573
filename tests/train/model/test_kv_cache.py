"""Generation step by step gives what the whole text gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder, init_weights
from corpusmill.train.model.kv_cache import KVCache

CONFIG = ModelConfig(vocab_size=40, dim=32, n_layers=3, n_heads=4, n_kv_heads=2, ffn_dim=48, max_length=16)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    decoder = Decoder(CONFIG)
    init_weights(decoder, 0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(5 if parameter.ndim == 2 else 1)
    return decoder


def random_ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(CONFIG.vocab_size, (rows, length), generator=torch.Generator().manual_seed(length))


@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.integers(1, 5), min_size=1, max_size=5), rows=st.integers(1, 3))
def test_chunks_of_any_size_give_the_logits_of_the_whole(decoder: Decoder, chunks: list[int], rows: int) -> None:
    ids = random_ids(rows, sum(chunks))
    cache = KVCache(CONFIG, rows, sum(chunks))
    with torch.no_grad():
        parts = [decoder(part, cache=cache) for part in ids.split(chunks, 1)]
        assert cache.length == sum(chunks)
        torch.testing.assert_close(torch.cat(parts, 1), decoder(ids), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    chunks=st.lists(st.integers(1, 3), max_size=3),
    filler=st.integers(0, CONFIG.vocab_size - 1),
)
def test_rows_padded_on_the_left_get_what_they_get_alone(
    decoder: Decoder, lengths: list[int], chunks: list[int], filler: int
) -> None:
    longest, new = max(lengths), sum(chunks)
    texts = [random_ids(1, length + new)[0] for length in lengths]
    start = torch.tensor([longest - length for length in lengths])
    padded = torch.full((len(texts), longest + new), filler)
    for row, text in enumerate(texts):
        padded[row, start[row] :] = text
    cache = KVCache(CONFIG, len(texts), longest + new, start=start)
    with torch.no_grad():
        got = torch.cat([decoder(part, cache=cache) for part in padded.split([longest, *chunks], 1)], 1)
        assert got.isfinite().all()
        for row, text in enumerate(texts):
            torch.testing.assert_close(got[row, start[row] :], decoder(text[None])[0], rtol=1e-4, atol=1e-5)


def test_what_stands_in_the_padding_changes_nothing(decoder: Decoder) -> None:
    outputs = []
    for filler in (0, 7):
        ids = random_ids(2, 9)
        ids[0, :4] = filler
        cache = KVCache(CONFIG, 2, 9, start=torch.tensor([4, 0]))
        with torch.no_grad():
            outputs.append(torch.cat([decoder(part, cache=cache) for part in ids.split([6, 1, 1, 1], 1)], 1))
    assert torch.equal(outputs[0][0, 4:], outputs[1][0, 4:])
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_rows_without_padding_need_no_mask() -> None:
    cache = KVCache(CONFIG, 2, 8, start=torch.tensor([0, 0]))
    assert cache.mask(5) is None
    cache.advance(5)
    assert cache.mask(1) is None
    assert cache.positions(1) == slice(5, 6)


def test_steps_write_into_memory_that_is_allocated_once() -> None:
    cache = KVCache(CONFIG, 2, 8, dtype=torch.bfloat16)
    places = set()
    for step in range(8):
        new = torch.full((2, CONFIG.n_kv_heads, 1, CONFIG.head_dim), step, dtype=torch.bfloat16)
        keys, values = cache.update(1, new, -new)
        cache.advance(1)
        places |= {(keys.data_ptr(), values.data_ptr())}
        assert keys[0, 0, :, 0].tolist() == list(range(step + 1))
        assert values[0, 0, :, 0].tolist() == [-i for i in range(step + 1)]
    assert len(places) == 1


def test_a_full_cache_takes_no_more(decoder: Decoder) -> None:
    cache = KVCache(CONFIG, 1, 4)
    with torch.no_grad(), pytest.raises(RuntimeError, match="exceeds dimension size"):
        decoder(random_ids(1, 5), cache=cache)
