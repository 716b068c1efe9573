"""The decoder: Llama's layers (Touvron et al. 2023) with the parameter names of Hugging Face's LlamaForCausalLM.

Names and shapes are those of the exported folder, so writing it is a copy and any Llama folder can be read.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from corpusmill.train.model.attention import Mask, attend, attention_mask
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.kv_cache import KVCache

__all__ = ["Decoder", "init_weights"]


class Linear(nn.Linear):
    """A matrix; only its weight is used in layers, for a module call costs as much as a product of one token."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)

    def reset_parameters(self) -> None:
        """Nothing: torch would draw from its global generator."""


class Embedding(nn.Embedding):
    """A table of rows by token id."""

    def reset_parameters(self) -> None:
        """Nothing: torch would draw from its global generator."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to the same; under autocast in its dtype, so that one cast serves all products that follow."""
        y = F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
        device = x.device.type
        return y.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else y


class Rotary:
    """Table of rotary positions (Su et al. 2021), computed as Hugging Face's Llama does.

    It is no buffer: a cast of the model would round it, and a model built on the meta device would lose it.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._theta = config.rope_theta
        self._head_dim = config.head_dim
        self._table = self._compute(config.max_length)

    def _compute(self, length: int) -> Tensor:
        exponent = torch.arange(0, self._head_dim, 2, dtype=torch.float32, device="cpu") / self._head_dim
        angle = torch.arange(length, dtype=torch.float32, device="cpu")[:, None] * (1.0 / self._theta**exponent)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _fit(self, end: int, device: torch.device) -> None:
        length = self._table.shape[1]
        with torch.inference_mode(False):  # a table made in inference could not serve training afterwards
            self._table = self._compute(length if end <= length else max(end, 2 * length)).to(device)

    def at(self, positions: slice | Tensor, end: int, device: torch.device) -> Tensor:
        """What `rotate` multiplies heads with.

        Args:
            positions: a slice for positions that all rows share, else int64[B, T].
            end: more than any of them.
            device: of the heads.

        Returns:
            float32[2, T, head_dim] or [2, B, 1, T, head_dim]: cosines, and sines with the sign of each half.
        """
        if end > self._table.shape[1] or self._table.device != device:
            self._fit(end, device)
        return self._table[:, positions] if isinstance(positions, slice) else self._table[:, positions].unsqueeze(2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of [B, H, T, head_dim] by the angle of its position, in fp32 or better."""
    wide = x.to(cos.dtype)
    return torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and shared key and value heads."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.layer = layer
        self.q_proj = Linear(config.dim, config.dim)
        self.k_proj = Linear(config.dim, config.kv_dim)
        self.v_proj = Linear(config.dim, config.kv_dim)
        self.o_proj = Linear(config.dim, config.dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask, cache: KVCache | None) -> Tensor:
        """[B, T, dim] to the same."""
        heads = (x.shape[0], x.shape[1], -1, self.head_dim)
        q = rotate(F.linear(x, self.q_proj.weight).view(heads).transpose(1, 2), cos, sin)
        k = rotate(F.linear(x, self.k_proj.weight).view(heads).transpose(1, 2), cos, sin)
        v = F.linear(x, self.v_proj.weight).view(heads).transpose(1, 2)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)
        return F.linear(attend(q, k, v, mask).transpose(1, 2).flatten(2), self.o_proj.weight)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.dim, config.ffn_dim)
        self.up_proj = Linear(config.dim, config.ffn_dim)
        self.down_proj = Linear(config.ffn_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] to the same."""
        gated = F.silu(F.linear(x, self.gate_proj.weight)) * F.linear(x, self.up_proj.weight)
        return F.linear(gated, self.down_proj.weight)


class Layer(nn.Module):
    """Attention, then feed-forward, each after a norm and added to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.dim, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask, cache: KVCache | None) -> Tensor:
        """[B, T, dim] to the same."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Embedding table, layers and last norm; what Hugging Face calls LlamaModel."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)


class Decoder(nn.Module):
    """A language model: token ids to logits of the next token.

    Weights are not initialised; call `init_weights` or load a state.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = None if config.tied else Linear(config.dim, config.vocab_size)
        self._rotary = Rotary(config)

    def forward(
        self, ids: Tensor, *, segments: Tensor | None = None, mask: Mask = None, cache: KVCache | None = None
    ) -> Tensor:
        """Logits of the token after each position.

        Args:
            ids: int64[B, T].
            segments: int[B, T], the document of each position (-1: dead); attention stays within documents.
                Positions count on over documents: only their differences matter.
            mask: what `attention_mask(segments)` returned, for callers that build it ahead; then no segments.
            cache: positions before these; these are added. It knows the padding, so neither segments nor mask.

        Returns:
            float[B, T, vocab_size].
        """
        return self.logits(self.hidden(ids, segments=segments, mask=mask, cache=cache))

    def hidden(
        self, ids: Tensor, *, segments: Tensor | None = None, mask: Mask = None, cache: KVCache | None = None
    ) -> Tensor:
        """What `forward` gives before the head: [B, T, dim]."""
        n = ids.shape[1]
        positions: slice | Tensor = slice(0, n)
        end = n
        if cache is not None:
            mask, positions, end = cache.mask(n), cache.positions(n), cache.length + n
        elif mask is None:
            mask = attention_mask(segments, ids.device)
        x = self.model.embed_tokens(ids)
        cos, sin = self._rotary.at(positions, end, ids.device).to(torch.promote_types(x.dtype, torch.float32))
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask, cache)
        if cache is not None:
            cache.advance(n)
        return self.model.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: [..., dim] to [..., vocab_size]."""
        if self.lm_head is None:
            return F.linear(hidden, self.model.embed_tokens.weight)
        return self.lm_head(hidden)  # type: ignore[no-any-return]


@torch.no_grad()
def init_weights(decoder: Decoder, seed: int) -> None:
    """Draws all weights: normal with deviation 0.02, projections back into the stream by 1/sqrt(2 layers) less.

    As GPT-2 (Radford et al. 2019, section 2.3). Drawn on the CPU from a generator of its own, so the same seed gives
    the same weights on every device.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    into_stream = 0.02 / math.sqrt(2 * decoder.config.n_layers)
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
            continue
        std = into_stream if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
