"""The decoder position by position, head by head, in float64: what `corpusmill.train.model.decoder` computes."""

import math

import torch
from torch import Tensor

from corpusmill.train.model.config import ModelConfig

Weights = dict[str, Tensor]


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / torch.sqrt((x * x).sum() / len(x) + eps)


def rotation(position: int, head_dim: int, theta: float) -> Tensor:
    """The matrix that turns each pair (i, i + head_dim / 2) by position / theta^(2i / head_dim)."""
    matrix = torch.zeros(head_dim, head_dim, dtype=torch.float64)
    for i in range(head_dim // 2):
        j = i + head_dim // 2
        angle = position / theta ** (2 * i / head_dim)
        matrix[i, i] = matrix[j, j] = math.cos(angle)
        matrix[i, j] = -math.sin(angle)
        matrix[j, i] = math.sin(angle)
    return matrix


def sees(query: int, key: int, segments: list[int]) -> bool:
    """A position sees itself, and those before it in its document; a dead one (-1) is in none."""
    return query == key or (key < query and segments[key] == segments[query] >= 0)


def attention(x: list[Tensor], weights: Weights, prefix: str, segments: list[int], config: ModelConfig) -> list[Tensor]:
    d = config.head_dim
    turn = [rotation(position, d, config.rope_theta) for position in range(len(x))]
    q = [weights[prefix + "q_proj.weight"] @ vector for vector in x]
    k = [weights[prefix + "k_proj.weight"] @ vector for vector in x]
    v = [weights[prefix + "v_proj.weight"] @ vector for vector in x]
    out = []
    for i in range(len(x)):
        heads = []
        for head in range(config.n_heads):
            shared = head // (config.n_heads // config.n_kv_heads)
            mine, theirs = slice(head * d, head * d + d), slice(shared * d, shared * d + d)
            seen = [j for j in range(len(x)) if sees(i, j, segments)]
            scores = torch.stack([(turn[i] @ q[i][mine]) @ (turn[j] @ k[j][theirs]) / math.sqrt(d) for j in seen])
            shares = torch.exp(scores) / torch.exp(scores).sum()
            heads.append(sum((share * v[j][theirs] for share, j in zip(shares, seen, strict=True)), torch.zeros(d)))
        out.append(weights[prefix + "o_proj.weight"] @ torch.cat(heads))
    return out


def feed_forward(x: Tensor, weights: Weights, prefix: str) -> Tensor:
    gate, up = weights[prefix + "gate_proj.weight"] @ x, weights[prefix + "up_proj.weight"] @ x
    return weights[prefix + "down_proj.weight"] @ (gate / (1 + torch.exp(-gate)) * up)


def logits(weights: Weights, ids: list[int], segments: list[int], config: ModelConfig) -> Tensor:
    """float64[T, V] of one row; differentiable in the weights (float64, by the names of their state dict)."""
    x = [weights["model.embed_tokens.weight"][token] for token in ids]
    for layer in range(config.n_layers):
        prefix = f"model.layers.{layer}."
        normed = [norm(vector, weights[prefix + "input_layernorm.weight"], config.norm_eps) for vector in x]
        mixed = attention(normed, weights, prefix + "self_attn.", segments, config)
        x = [vector + change for vector, change in zip(x, mixed, strict=True)]
        normed = [norm(vector, weights[prefix + "post_attention_layernorm.weight"], config.norm_eps) for vector in x]
        x = [vector + feed_forward(y, weights, prefix + "mlp.") for vector, y in zip(x, normed, strict=True)]
    head = weights["model.embed_tokens.weight" if config.tied else "lm_head.weight"]
    return torch.stack([head @ norm(vector, weights["model.norm.weight"], config.norm_eps) for vector in x])
