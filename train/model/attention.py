"""Causal attention, kept within documents by a mask that is built once a batch and serves all layers."""

import math
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["Mask", "attend", "attention_mask"]

Mask: TypeAlias = Any
"""None (causal), bool[B, 1, T, S] (true where a query sees a key), or a flex-attention BlockMask."""

_SHORT = 256
"""Most keys for which bf16 attention on a CPU is quicker by matrix products than by torch's fused kernel."""


def attention_mask(segments: Tensor | None, device: torch.device) -> Mask:
    """The mask that keeps attention within documents.

    A position sees those before it of the same segment, and itself. A dead position (segment -1) sees itself only,
    so that its softmax is finite; nothing else sees it.

    Args:
        segments: int[B, T], the document of each position, -1 where it is dead. Best on the CPU, where looking at
            the values makes no device wait.
        device: of the queries.

    Returns:
        None where plain causal attention does: no segments, or one live segment a row. Else a BlockMask on CUDA,
        bool[B, 1, T, T] elsewhere.
    """
    if segments is None or bool((segments == segments[:, :1]).all() and (segments[:, 0] >= 0).all()):
        return None
    segments = segments.to(device)
    if device.type == "cuda":
        return _block_mask(segments)
    same = segments[:, :, None] == segments[:, None, :]
    same &= (segments >= 0)[:, :, None]
    same.tril_()
    same.diagonal(dim1=1, dim2=2).fill_(True)
    return same[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Scaled dot-product attention with shared key and value heads (Ainslie et al. 2023).

    Args:
        q: [B, H, T, head_dim].
        k: [B, KV, S, head_dim], KV dividing H.
        v: as k.
        mask: as `attention_mask` returns it. With None, S = T is causal, and a single query sees all keys.

    Returns:
        [B, H, T, head_dim].
    """
    if mask is not None and not isinstance(mask, Tensor):
        out: Tensor = _flex_attention()(q, k, v, block_mask=mask, enable_gqa=True)
        return out
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[2] > 1 and k.shape[2] <= _SHORT:
        return _attend_short(q, k, v, mask)
    if mask is None and q.shape[2] > 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def _attend_short(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` by two matrix products a key head, each over all query heads that share it.

    The scores of a head fit a cache, and processors with bf16 products then do both passes about twice as fast.
    """
    n_rows, n_heads, n, head_dim = q.shape
    n_kv, n_keys = k.shape[1:3]
    hidden = torch.ones(n, n_keys, dtype=torch.bool).triu_(1) if mask is None else ~mask[:, None]
    bias = torch.zeros(hidden.shape, dtype=q.dtype).masked_fill_(hidden, -math.inf)
    shape = (n_rows, n_kv, n_heads // n_kv, n, n_keys)
    flat = (n_rows * n_kv, n_heads // n_kv * n)
    scores = torch.baddbmm(
        bias.expand(shape).reshape(*flat, n_keys),
        q.reshape(*flat, head_dim),
        k.reshape(n_rows * n_kv, n_keys, head_dim).transpose(1, 2),
        alpha=head_dim**-0.5,
    )
    weights = scores.view(shape).softmax(-1).view(*flat, n_keys)
    return torch.bmm(weights, v.reshape(n_rows * n_kv, n_keys, head_dim)).view(q.shape)


def _block_mask(segments: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        own = segments[b, q]
        return ((own == segments[b, k]) & (own >= 0) & (q >= k)) | (q == k)

    n_rows, length = segments.shape
    return create_block_mask(seen, n_rows, None, length, length, device=str(segments.device))


@cache
def _flex_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
