"""Attention masks and the ways to compute attention, which must agree."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from corpusmill.train.model import attention
from corpusmill.train.model.attention import attend, attention_mask
from tests.reference.decoder import sees

CPU = torch.device("cpu")


@pytest.mark.parametrize("segments", [None, [[0, 0, 0]], [[2, 2, 2], [0, 0, 0]]])
def test_one_live_document_a_row_needs_no_mask(segments: list[list[int]] | None) -> None:
    assert attention_mask(None if segments is None else torch.tensor(segments), CPU) is None


@pytest.mark.parametrize("segments", [[0, 0, 1], [0, -1, 0], [-1, -1, -1], [-1, 0, 0, 1, -1, 1, 2]])
def test_mask_is_what_the_rule_says(segments: list[int]) -> None:
    mask = attention_mask(torch.tensor([segments, segments]), CPU)
    positions = range(len(segments))
    rule = [[sees(query, key, segments) for key in positions] for query in positions]
    assert mask.shape == (2, 1, len(segments), len(segments))
    assert mask[0, 0].tolist() == mask[1, 0].tolist() == rule


def test_a_mask_for_one_row_is_a_mask_for_all() -> None:
    mask = attention_mask(torch.tensor([[0, 0, 0], [0, 1, 1]]), CPU)
    assert mask[0, 0].tolist() == torch.ones(3, 3).tril().bool().tolist()


def heads(n: int, length: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(2, n, length, 16, generator=torch.Generator().manual_seed(seed))
    return x.to(dtype).requires_grad_()


def documents(length: int) -> Tensor:
    """Two rows: three documents and a dead end; one document with a dead hole."""
    first = torch.arange(length) * 3 // length
    first[-length // 8 :] = -1
    second = torch.zeros(length, dtype=torch.int64)
    second[length // 3 : length // 2] = -1
    return torch.stack([first, second])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_kv", [1, 2, 4])
def test_short_bf16_attention_is_fp32_attention_rounded(n_kv: int, masked: bool) -> None:
    """Both passes, against torch's fused kernel on the same (bf16) values in fp32."""
    length = 40
    mask = attention_mask(documents(length), CPU) if masked else None
    short = [heads(n, length, seed, torch.bfloat16) for seed, n in enumerate((4, n_kv, n_kv))]
    exact = [x.detach().float().requires_grad_() for x in short]
    cotangent = torch.randn(2, 4, length, 16, generator=torch.Generator().manual_seed(9)).bfloat16()
    got, expected = attend(*short, mask), attend(*exact, mask)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.02)
    got.backward(cotangent)
    expected.backward(cotangent.float())
    for mine, theirs in zip(short, exact, strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.float(), theirs.grad, rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
def test_flex_attention_sees_what_the_mask_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's block mask and kernel, eager on the CPU, over more than one block of 128."""
    monkeypatch.setattr(attention, "_flex_attention", lambda: flex_attention)
    length = 200
    q, k, v = (heads(n, length, seed).detach() for seed, n in enumerate((4, 2, 2)))
    segments = documents(length)
    got = attend(q, k, v, attention._block_mask(segments))
    torch.testing.assert_close(got, attend(q, k, v, attention_mask(segments, CPU)), rtol=1e-5, atol=1e-5)


def test_a_single_query_sees_all_keys() -> None:
    """As in a step of generation; "causal" would show it the first key only."""
    q, k, v = heads(4, 1, 0), heads(2, 9, 1), heads(2, 9, 2)
    shares = torch.softmax(q @ k.repeat_interleave(2, 1).transpose(2, 3) / 4, -1)
    torch.testing.assert_close(attend(q, k, v, None), shares @ v.repeat_interleave(2, 1))
