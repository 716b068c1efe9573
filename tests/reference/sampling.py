"""Sampling as `generate_ids` describes it: one row, one token at a time, nothing remembered, the whole list sorted."""

import math
from collections.abc import Callable, Sequence


def distribution(
    logits: Sequence[float], *, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> list[float]:
    """Probability of each token; logits of -inf have none."""
    largest = max(logits)
    if temperature == 0:
        first = logits.index(largest)
        return [float(i == first) for i in range(len(logits))]
    kept = list(logits)
    if top_k is not None:
        least = sorted(kept, reverse=True)[:top_k][-1]
        kept = [logit if logit >= least else -math.inf for logit in kept]
    weights = [math.exp((logit - largest) / temperature) for logit in kept]
    p = [weight / sum(weights) for weight in weights]
    if top_p is not None:
        together, least = 0.0, 0.0
        for value in sorted(p, reverse=True):
            least = value
            together += value
            if together >= top_p:
                break
        p = [value if value >= least else 0.0 for value in p]
    return [value / sum(p) for value in p]


def draw(p: Sequence[float], u: float) -> int:
    """The token at the point u of [0, 1), tokens side by side in the order of their ids."""
    passed = 0.0
    for token, value in enumerate(p):
        passed += value
        if u < passed:
            return token
    return max(token for token, value in enumerate(p) if value > 0)


def continue_ids(
    logits_of: Callable[[Sequence[int]], list[float]],
    prompt: Sequence[int],
    draws: Sequence[float],
    *,
    context: int,
    eos: int | None = None,
    **settings: float | None,
) -> list[int]:
    """New ids of one row.

    Args:
        logits_of: logits of the token after a window of ids.
        prompt: where it begins.
        draws: one a new id.
        context: longest window; a longer prompt loses its beginning, a full window its first half.
        eos: ends the row.
        settings: of `distribution`.
    """
    window = list(prompt)[-context:]
    new: list[int] = []
    for u in draws:
        if len(window) > context:
            window = window[-max(1, context // 2) :]
        token = draw(distribution(logits_of(window), **settings), u)  # type: ignore[arg-type]
        if token == eos:
            break
        new.append(token)
        window.append(token)
    return new
