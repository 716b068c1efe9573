"""How bench/train times contestants and compares them."""

import itertools

import pytest

from bench.timing import Run, drain, interleaved, speed, speedup, timed


def run(tokens: int, wall: float, cpu: float | None = None) -> Run:
    return Run(tokens=tokens, wall_s=wall, cpu_s=wall if cpu is None else cpu)


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def contestant(name: str) -> Run:
        calls.append(name)
        return run(len(calls), 1.0)

    runs = interleaved({name: lambda name=name: contestant(name) for name in ("ours", "peer")}, 2)
    assert calls == ["ours", "peer"] * 3
    assert [r.tokens for r in runs["ours"]] == [3, 5]
    assert [r.tokens for r in runs["peer"]] == [4, 6]


def test_speed_is_the_median_and_the_speedup_that_of_neighbours() -> None:
    ours = [run(100, 1.0, 0.5), run(100, 2.0, 0.5), run(100, 4.0, 0.5)]
    peer = [run(100, 2.0, 1.0), run(100, 4.0, 1.5), run(100, 40.0, 2.0)]
    assert speed(ours, "wall_s") == 50
    assert speedup(ours, peer, "wall_s") == 2  # ratios 2, 2, 10
    assert speedup(ours, peer, "cpu_s") == 3


def test_draining_takes_whole_batches_for_some_time() -> None:
    taken = itertools.count()
    done = drain(taken, 10, 0.02)
    assert done.tokens == 10 * next(taken)
    assert done.wall_s >= 0.02


def test_what_fails_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 // 0)
