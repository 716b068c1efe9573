"""The mixture in plain Python, sample by sample: what `corpusmill.train.data.mixture` counts by a formula."""

import hashlib

M = 2**32
A = 2654435521


def floor_sum(n: int, m: int, a: int, b: int) -> int:
    return sum((a * i + b) // m for i in range(n))


def start(seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"mixture/{seed}".encode()).digest()[:4], "little")


def source(weights: tuple[int, ...], seed: int, sample: int) -> int:
    point = (A * sample + start(seed)) % M
    for k in range(len(weights)):
        if point < M * sum(weights[: k + 1]) // sum(weights):
            return k
    raise AssertionError("the last bracket ends at 2^32")


def walk(weights: tuple[int, ...], seed: int, n: int) -> list[tuple[int, int]]:
    """The source of each of the samples 0 … n-1, and how many samples before it the source got."""
    drawn = [0] * len(weights)
    found = []
    for sample in range(n):
        k = source(weights, seed, sample)
        found.append((k, drawn[k]))
        drawn[k] += 1
    return found


def partial_quotients() -> list[int]:
    """Of the continued fraction of A / 2^32."""
    quotients, m, a = [], M, A
    while a:
        quotients.append(m // a)
        m, a = a, m % a
    return quotients


def deviation_bound(n: int) -> float:
    """How far the count of any source may be from its share of any n consecutive samples (see `Mixture`)."""
    q = [1, 1]  # denominators of the convergents; the first partial quotient is 1
    for quotient in partial_quotients()[1:]:
        q.append(quotient * q[-1] + q[-2])
    bound = n / M
    rest = n % M  # after 2^32 samples each bracket has been filled exactly
    for i in reversed(range(len(q) - 1)):
        digit, rest = divmod(rest, q[i])
        bound += digit * (1 + q[i] / q[i + 1])
    return bound
