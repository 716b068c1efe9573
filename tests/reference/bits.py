"""Nats of a document as DESIGN §6 defines them, token by token, each from a pass of the model of its own."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def nats_of(model: Callable[[Tensor], Tensor], tokens: Sequence[int], length: int, eos: int) -> list[float]:
    """-ln p of each token, given <eos> and the tokens before it that its window shows.

    Windows have `length` inputs and begin every `length` / 2 (rounded up) tokens; a token counts in the first one
    that has it as a target.
    """
    stream = [eos, *tokens]
    stride = -(-length // 2)
    nats = []
    for i, token in enumerate(tokens):
        start = 0
        while i >= start + length:
            start += stride
        logits = model(torch.tensor([stream[start : i + 1]]))[0, -1]
        nats.append(-torch.log_softmax(logits.double(), -1)[token].item())
    return nats
