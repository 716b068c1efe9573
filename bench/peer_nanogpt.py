"""nanoGPT's model, training step and loader, written anew to be compared with: a reimplementation, not its code.

After model.py, train.py and data/openwebtext/prepare.py of karpathy/nanoGPT (MIT license), with the settings that its
train.py trains with (no biases, no dropout): GPT-2's layers, learned positions, one matrix product for queries, keys
and values, torch's fused attention, GELU over 4 times the width, a head that is the embedding table. Left out is what
training on one device does not use: GPT-2's published weights, sampling, compilation.

One thing is granted that nanoGPT does not do: on a CPU its train.py computes in fp32 and takes the unfused AdamW; here
bf16 autocast and the fused one are for the caller to choose, so that both sides can have the same.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["GPT", "GPTConfig", "get_batch", "train_step", "write_bin"]

_PIECES = 1024
"""Parts in which prepare.py writes a .bin."""


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """nanoGPT's names of the sizes."""

    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = False


class LayerNorm(nn.Module):
    """With a bias that can be left out."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    """Queries, keys and values by one product."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.n_embd, self.dropout = config.n_head, config.n_embd, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        n_rows, n, width = x.shape
        q, k, v = (
            part.view(n_rows, n, self.n_head, width // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(self.n_embd, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=dropout, is_causal=True)
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(n_rows, n, width)))


class MLP(nn.Module):
    """Four times the width."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    """Attention, then the MLP, each after a norm and added to the stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Token ids to logits, or to the mean loss over targets."""

    def __init__(self, config: GPTConfig) -> None:
        """Weights are drawn from torch's global generator, as nanoGPT draws them."""
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "drop": nn.Dropout(config.dropout),
                "h": nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                "ln_f": LayerNorm(config.n_embd, config.bias),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight
        self.apply(self._init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @property
    def n_parameters(self) -> int:
        """All parameters, positions included; the tied table counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits of all positions and the mean loss; without targets those of the last position only, and None.

        Args:
            idx: int64[B, T], T at most `block_size`.
            targets: int64[B, T], -1 for none.
        """
        x = self.transformer["wte"](idx) + self.transformer["wpe"](torch.arange(idx.shape[1], device=idx.device))
        x = self.transformer["drop"](x)
        for block in self.transformer["h"]:
            x = block(x)
        x = self.transformer["ln_f"](x)
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)

    def configure_optimizers(
        self, *, weight_decay: float, lr: float, betas: tuple[float, float], fused: bool
    ) -> torch.optim.AdamW:
        """AdamW with decay on all matrices, embeddings included."""
        parameters = list(self.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=fused)


def train_step(
    model: GPT, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, *, clip: float, autocast: torch.autocast
) -> None:
    """One iteration of train.py without accumulation; like there, the loss is not waited for."""
    with autocast:
        _, loss = model(x, y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def write_bin(documents: Any, path: Path, *, eos: int) -> None:
    """A .bin as prepare.py writes it: all documents, <eos> after each, uint16.

    Args:
        documents: a `datasets.Dataset` with the column `input_ids`.
        path: of the file.
        eos: id of <eos>.
    """
    n_tokens = sum(len(ids) + 1 for batch in documents.with_format("arrow").iter(_PIECES) for ids in batch["input_ids"])
    tokens = np.memmap(path, np.uint16, "w+", shape=(n_tokens,))
    at, n_pieces = 0, min(_PIECES, len(documents))
    for number in range(n_pieces):
        piece = documents.shard(n_pieces, number, contiguous=True).with_format("numpy")
        written = np.concatenate([np.append(ids, eos) for ids in piece["input_ids"]])
        tokens[at : at + len(written)] = written
        at += len(written)
    tokens.flush()


def get_batch(path: Path, batch_size: int, block_size: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, int64[B, T] each, from random places of a .bin; the same place may come again."""
    data = np.memmap(path, np.uint16, "r")  # anew for each batch: kept, it would leak memory, says train.py
    ix = torch.randint(len(data) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy(data[i : i + block_size].astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + block_size].astype(np.int64)) for i in ix])
    return x, y
