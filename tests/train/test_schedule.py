import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.schemas.errors import UsageError
from corpusmill.train.schedule import ScheduleSettings, learning_rate


def rates(**settings):
    schedule = ScheduleSettings(**settings)
    return [learning_rate(step, schedule) for step in range(schedule.steps)]


@st.composite
def schedules(draw):
    steps = draw(st.integers(1, 200))
    decay = draw(st.floats(0, 1))
    return ScheduleSettings(
        name=draw(st.sampled_from(["wsd", "cosine"])),
        lr=draw(st.floats(1e-6, 10)),
        steps=steps,
        warmup_steps=draw(st.integers(0, steps - round(decay * steps))),
        decay_fraction=decay,
        decay_shape=draw(st.sampled_from(["linear", "sqrt"])),
        min_fraction=draw(st.floats(0, 1)),
    )


def test_wsd_linear():
    """Up over 2 steps, 4 steps at the top, down over 4."""
    assert rates(
        lr=8.0, steps=10, warmup_steps=2, decay_fraction=0.4, decay_shape="linear"
    ) == [4, 8, 8, 8, 8, 8, 8, 6, 4, 2]  # fmt: skip


def test_wsd_sqrt():
    """1 - sqrt(k / 4) for k = 0 … 3."""
    assert rates(lr=1.0, steps=8, warmup_steps=0, decay_fraction=0.5) == pytest.approx(
        [1, 1, 1, 1, 1, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)]
    )


def test_cosine():
    assert rates(name="cosine", lr=1.0, steps=6, warmup_steps=2, min_fraction=0.2) == pytest.approx(
        [0.5, 1, 1, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 0.6, 0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2]
    )


def test_the_decay_goes_to_the_minimum():
    assert rates(
        lr=1.0, steps=5, warmup_steps=0, decay_fraction=1.0, decay_shape="linear", min_fraction=0.5
    ) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])


def test_a_longer_run_is_the_same_until_the_decay():
    short = rates(lr=1.0, steps=100, warmup_steps=10)
    long = rates(lr=1.0, steps=200, warmup_steps=10)
    assert short[:80] == long[:80]


@given(schedules())
def test_no_step_is_at_rate_0_or_above_the_peak(schedule):
    found = [learning_rate(step, schedule) for step in range(schedule.steps)]
    assert all(0 < rate <= schedule.lr * (1 + 1e-12) for rate in found)
    after = found[schedule.warmup_steps :]
    assert all(rate >= schedule.lr * schedule.min_fraction * (1 - 1e-12) for rate in after)


@given(schedules())
def test_up_and_then_down(schedule):
    found = [learning_rate(step, schedule) for step in range(schedule.steps)]
    top = schedule.warmup_steps
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)


@given(schedules())
def test_no_jump_is_larger_than_the_steepest_step_of_a_piece(schedule):
    found = [learning_rate(step, schedule) for step in range(schedule.steps)]
    rise = 1 / schedule.warmup_steps if schedule.warmup_steps else 0.0
    if schedule.name == "cosine":
        fall = math.pi / 2 / max(schedule.steps - schedule.warmup_steps, 1)
    else:
        fall = 1 / max(schedule.decay_steps, 1)
        fall = math.sqrt(fall) if schedule.decay_shape == "sqrt" else fall
    largest = schedule.lr * max(rise, fall) * (1 + 1e-9)
    assert all(abs(a - b) <= largest for a, b in pairwise(found))


@given(schedules())
def test_the_peak_is_reached(schedule):
    top = learning_rate(max(schedule.warmup_steps - 1, 0), schedule)
    assert top == pytest.approx(schedule.lr)


@pytest.mark.parametrize("step", [-1, 10])
def test_steps_outside_the_run_are_refused(step):
    with pytest.raises(ValueError, match=r"step .* is not in \[0, 10\)"):
        learning_rate(step, ScheduleSettings(lr=1.0, steps=10, warmup_steps=0))


def test_parts_longer_than_the_run_are_named():
    with pytest.raises(UsageError, match=r"60 steps of optim.warmup \+ 50 of optim.decay 0.5 are more than .*100"):
        ScheduleSettings(lr=1.0, steps=100, warmup_steps=60, decay_fraction=0.5)
    with pytest.raises(UsageError, match=r"101 steps of optim.warmup are more than optim.steps 100"):
        ScheduleSettings(name="cosine", lr=1.0, steps=100, warmup_steps=101)


def test_parts_as_long_as_the_run_are_fine():
    assert rates(lr=1.0, steps=2, warmup_steps=1, decay_fraction=0.5) == [1.0, 1.0]
    assert rates(name="cosine", lr=1.0, steps=2, warmup_steps=2) == [0.5, 1.0]
