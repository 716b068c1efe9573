"""Sizes of a decoder, the presets, and what a size costs in parameters, floating-point work and memory."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from corpusmill.schemas.errors import UsageError

__all__ = ["PRESETS", "ModelConfig", "Optimizer", "TrainingBytes", "preset"]

Optimizer = Literal["adamw", "muon", "sgd"]
"""Optimisers that `ModelConfig.training_bytes` knows: AdamW, Muon with AdamW for the rest, SGD with momentum."""

_FP32 = 4
"""Bytes of a weight, a gradient and each optimiser state: mixed precision keeps them all in fp32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBytes:
    """Memory of a training step on one device without sharding, in bytes; only `activations` is an estimate."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return self.weights + self.gradients + self.optimizer + self.activations


class ModelConfig(BaseModel):
    """Sizes of a Llama decoder.

    Attributes:
        vocab_size: rows of the embedding table, special tokens included.
        dim: width of the residual stream.
        n_layers: blocks of attention and feed-forward.
        n_heads: query heads; each is `head_dim` = dim / n_heads wide.
        n_kv_heads: key and value heads, each shared by n_heads / n_kv_heads query heads (Ainslie et al. 2023).
        ffn_dim: width inside the feed-forward.
        max_length: context in tokens the model is trained with; positions beyond it work, untrained.
        rope_theta: base of the rotary frequencies.
        norm_eps: added to the mean square before its root.
        tied: whether the head is the embedding table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    vocab_size: PositiveInt
    dim: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    n_kv_heads: PositiveInt
    ffn_dim: PositiveInt
    max_length: PositiveInt
    rope_theta: float = Field(default=10000.0, gt=1, allow_inf_nan=False)
    norm_eps: float = Field(default=1e-5, gt=0, lt=1)
    tied: bool = False

    @model_validator(mode="after")
    def _divides(self) -> "ModelConfig":
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of n_heads {self.n_heads}")
        if self.head_dim % 2:
            raise ValueError(f"dim {self.dim} / n_heads {self.n_heads} = {self.head_dim} is odd; rotation needs pairs")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        return self

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.n_heads

    @property
    def kv_dim(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.n_kv_heads * self.head_dim

    @property
    def n_matrix_parameters(self) -> int:
        """Parameters in the matrices of the layers: what Muon updates."""
        attention = 2 * self.dim * self.dim + 2 * self.dim * self.kv_dim
        return self.n_layers * (attention + 3 * self.dim * self.ffn_dim)

    @property
    def n_parameters_without_embeddings(self) -> int:
        """Parameters of the layers and norms; neither the embedding table nor the head."""
        return self.n_matrix_parameters + (2 * self.n_layers + 1) * self.dim

    @property
    def n_parameters(self) -> int:
        """All parameters; a tied table counts once."""
        return self.n_parameters_without_embeddings + (1 if self.tied else 2) * self.vocab_size * self.dim

    def flops_per_token(self, length: int) -> int:
        """Floating-point operations to train on one token: 6 N + 12 L D T.

        From PaLM (Chowdhery et al. 2022, appendix B), so that a share of peak computed from it compares with
        published ones. N counts the weights that a token is multiplied with: all but the embedding table, the
        head included, tied or not. The causal mask spares half of the attention term; as in PaLM it counts in full.

        Args:
            length: tokens a row (T).
        """
        n_weights = self.n_parameters_without_embeddings + self.vocab_size * self.dim
        return 6 * n_weights + 12 * self.n_layers * self.dim * length

    def training_bytes(self, batch: int, length: int, optimizer: Optimizer, *, value_bytes: int = 2) -> TrainingBytes:
        """Memory of one training step.

        Weights, gradients and optimiser states are exact: AdamW keeps 8 bytes a parameter, SGD with momentum 4,
        Muon 4 a matrix parameter of the layers and AdamW's 8 elsewhere. Activations are counted as Korthikanti et
        al. (2022, section 4.1) count them, for this decoder and attention that keeps no score matrix: what a
        layer saves a token is the fp32 input of both norms (8 D), and in `value_bytes` both norms' outputs,
        queries, keys, values, the output of attention, and four times the inside of the feed-forward; then the
        logits, their copy in fp32 and its gradient. Mixed precision adds a copy of each matrix.

        Args:
            batch: rows a forward pass (of one device and one micro-batch).
            length: tokens a row.
            optimizer: whose states.
            value_bytes: bytes of a value in matrix products: 2 under bf16 autocast, 4 in fp32.
        """
        saved = 8 * self.dim + value_bytes * (4 * self.dim + 2 * self.kv_dim + 4 * self.ffn_dim)
        a_token = self.n_layers * saved + (value_bytes + 2 * _FP32) * self.vocab_size
        copies = value_bytes * (self.n_matrix_parameters + self.vocab_size * self.dim) if value_bytes < _FP32 else 0
        states = {
            "adamw": 2 * self.n_parameters,
            "muon": 2 * self.n_parameters - self.n_matrix_parameters,
            "sgd": self.n_parameters,
        }[optimizer]
        return TrainingBytes(
            weights=_FP32 * self.n_parameters,
            gradients=_FP32 * self.n_parameters,
            optimizer=_FP32 * states,
            activations=batch * length * a_token + copies,
        )


PRESETS: dict[str, dict[str, Any]] = {
    "nano": {
        "dim": 128,
        "n_layers": 4,
        "n_heads": 4,
        "n_kv_heads": 2,
        "ffn_dim": 352,
        "max_length": 128,
        "tied": True,
    },
    "small": {
        "dim": 576,
        "n_layers": 30,
        "n_heads": 9,
        "n_kv_heads": 3,
        "ffn_dim": 1536,
        "max_length": 2048,
        "tied": True,
    },
    "medium": {
        "dim": 960,
        "n_layers": 32,
        "n_heads": 15,
        "n_kv_heads": 5,
        "ffn_dim": 2560,
        "max_length": 2048,
        "tied": True,
    },
    "1b": {
        "dim": 2048,
        "n_layers": 22,
        "n_heads": 32,
        "n_kv_heads": 4,
        "ffn_dim": 5632,
        "max_length": 2048,
    },
    "3b": {
        "dim": 3072,
        "n_layers": 28,
        "n_heads": 24,
        "n_kv_heads": 8,
        "ffn_dim": 8192,
        "max_length": 8192,
        "rope_theta": 500000.0,
        "tied": True,
    },
    "7b": {
        "dim": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "n_kv_heads": 32,
        "ffn_dim": 11008,
        "max_length": 4096,
    },
}
"""Fields of `ModelConfig` by name of the size, without `vocab_size`, which is the tokenizer's.

Shapes are published ones: small and medium are SmolLM 135M and 360M (Hugging Face 2024), 1b is TinyLlama 1.1B
(Zhang et al. 2024), 3b is Llama 3.2 3B before its long-context stage (Meta 2024), 7b is Llama 2 7B (Touvron et al.
2023). nano is for demos and tests on a CPU.
"""


def preset(name: str, vocab_size: int) -> ModelConfig:
    """The sizes of a preset for a vocabulary.

    Raises:
        UsageError: no preset has that name.
    """
    if name not in PRESETS:
        raise UsageError(f'there is no model size "{name}"; choose one of {", ".join(PRESETS)}')
    return ModelConfig(vocab_size=vocab_size, **PRESETS[name])
