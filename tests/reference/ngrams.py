"""Witten-Bell's n-gram models by counting in dictionaries: what `bench.language.WittenBell` computes."""

from collections import Counter, defaultdict
from collections.abc import Sequence


class Plain:
    """Unigram and bigram probabilities from windows of token ids, -1 where there is no token."""

    def __init__(self, windows: Sequence[Sequence[int]], vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.tokens: Counter[int] = Counter()
        self.after: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for window in windows:
            for history, token in zip(window, window[1:], strict=False):
                if history != -1 and token != -1:
                    self.tokens[token] += 1
                    self.after[history][token] += 1

    def unigram(self, token: int) -> float:
        n_kinds, n_tokens = len(self.tokens), sum(self.tokens.values())
        if n_tokens == 0:
            return 1 / self.vocab_size
        weight = n_tokens / (n_tokens + n_kinds)
        return weight * self.tokens[token] / n_tokens + (1 - weight) / self.vocab_size

    def bigram(self, history: int, token: int) -> float:
        seen = self.after[history]
        n_kinds, n_tokens = len(seen), sum(seen.values())
        if n_tokens == 0:
            return self.unigram(token)
        weight = n_tokens / (n_tokens + n_kinds)
        return weight * seen[token] / n_tokens + (1 - weight) * self.unigram(token)


def longest_common_run(text: str, other: str) -> int:
    """Length of the longest run of characters that both have."""
    return max((j - i for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] in other), default=0)
