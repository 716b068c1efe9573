"""The orders of windows in plain Python, one number at a time: what `corpusmill.train.data.order` computes."""

import hashlib
import math

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def order_key(seed: int, source: str, epoch: int, block: int | str = "-") -> int:
    digest = hashlib.sha256(f"{seed}/{source}/{epoch}/{block}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def mix64(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def shift(other: int, i: int, key: int, size: int) -> int:
    """The round function: a number below `size`."""
    round_key = mix64((key + (i + 1) * GOLDEN) & MASK)
    return (mix64((other + round_key) & MASK) >> 32) * size >> 32


def permute(index: int, n: int, key: int) -> int:
    a = math.ceil(math.sqrt(n))
    b = (n + a - 1) // a
    left, right = divmod(index, b)
    for i in range(0, 8, 2):
        left = (left + shift(right, i, key, a)) % a
        right = (right + shift(left, i + 1, key, b)) % b
    value = left * b + right
    return value if value < n else permute(value, n, key)


def global_epoch(n: int, seed: int, source: str, epoch: int) -> list[int]:
    """The windows of an epoch in their order."""
    return [permute(i, n, order_key(seed, source, epoch)) for i in range(n)]


def blocked_epoch(sizes: list[int], seed: int, source: str, epoch: int) -> list[int]:
    """The same, block after block."""
    windows = []
    for turn in range(len(sizes)):
        block = permute(turn, len(sizes), order_key(seed, source, epoch))
        key = order_key(seed, source, epoch, block)
        windows += [sum(sizes[:block]) + permute(i, sizes[block], key) for i in range(sizes[block])]
    return windows
