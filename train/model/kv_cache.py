"""Keys and values of the positions a decoder has seen, so that a step of generation computes new positions only."""

import torch
from torch import Tensor

from corpusmill.train.model.config import ModelConfig

__all__ = ["KVCache"]


class KVCache:
    """Memory for a batch of rows that grow together, allocated once.

    Rows of unequal length are padded on the left, so that all end together: row b begins at slot `start[b]`, which
    is its position 0; what is in the slots before it is never seen.

    Attributes:
        length: slots written so far.
        max_length: slots there are.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        start: Tensor | None = None,
    ) -> None:
        """Allocates the cache.

        Args:
            config: of the decoder.
            batch: rows.
            max_length: slots a row, padding included.
            dtype: of keys and values: that of the decoder's matrix products.
            device: of the decoder.
            start: int64[batch], slots of padding before each row; None for no padding.
        """
        shape = (config.n_layers, batch, config.n_kv_heads, max_length, config.head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device).unbind()
        self._values = torch.zeros(shape, dtype=dtype, device=device).unbind()
        self.length = 0
        self.max_length = max_length
        self._start: Tensor | None = None
        if start is not None and bool(start.any()):
            self._start = start.to(device)
            self._live = torch.arange(max_length, device=device) >= self._start[:, None, None, None]

    def positions(self, n: int) -> slice | Tensor:
        """Positions of the next n slots: a slice where rows have no padding, else int64[batch, n]."""
        if self._start is None:
            return slice(self.length, self.length + n)
        slots = torch.arange(self.length, self.length + n, device=self._start.device)
        return (slots - self._start[:, None]).clamp_(min=0)

    def mask(self, n: int) -> Tensor | None:
        """What the next n slots may see, as `attention.attend` takes it: bool[batch or 1, 1, n, length + n]."""
        if n == 1:
            return None if self._start is None else self._live[..., : self.length + 1]
        if self._start is None and self.length == 0:
            return None
        end = self.length + n
        keys = torch.arange(end, device=self._keys[0].device)
        queries = keys[self.length :, None]
        seen = (keys <= queries)[None, None]
        return seen if self._start is None else (seen & self._live[..., :end]) | (keys == queries)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the keys and values of a layer into the next slots.

        Args:
            layer: its number.
            k: [batch, n_kv_heads, n, head_dim].
            v: as k.

        Returns:
            Keys and values of all slots up to those: views [batch, n_kv_heads, length + n, head_dim].
        """
        n = k.shape[2]
        keys = self._keys[layer].narrow(2, 0, self.length + n)
        values = self._values[layer].narrow(2, 0, self.length + n)
        keys.narrow(2, self.length, n).copy_(k)
        values.narrow(2, self.length, n).copy_(v)
        return keys, values

    def advance(self, n: int) -> None:
        """Counts n slots as written, after all layers have."""
        self.length += n
