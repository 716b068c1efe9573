"""The learning rate as a pure function of the step.

`wsd` warms up, stays, and decays over the last part (Hu et al. 2024, MiniCPM, arXiv:2404.06395): a run can be made
longer from any checkpoint before the decay. `cosine` decays from the end of the warm-up on.
"""

import math
from dataclasses import dataclass
from typing import Literal

from corpusmill.schemas.errors import UsageError

__all__ = ["ScheduleSettings", "learning_rate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSettings:
    """The shape of a schedule.

    Attributes:
        name: "wsd" or "cosine".
        lr: the highest learning rate.
        steps: of the whole run.
        warmup_steps: steps over which the rate rises; the first is at lr / warmup_steps, the last at lr.
        decay_fraction: share of the steps, at the end, over which "wsd" decays.
        decay_shape: how "wsd" decays: "linear", or "sqrt", which is 1 - sqrt(progress) (Hägele et al. 2024,
            arXiv:2405.18392, section 3).
        min_fraction: what both decay to, as a share of lr.

    Raises:
        UsageError: warm-up and decay are longer than the run.
    """

    lr: float
    steps: int
    warmup_steps: int
    name: Literal["wsd", "cosine"] = "wsd"
    decay_fraction: float = 0.2
    decay_shape: Literal["linear", "sqrt"] = "sqrt"
    min_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup_steps + self.decay_steps > self.steps:
            decay = f" + {self.decay_steps} of optim.decay {self.decay_fraction:g}" if self.decay_steps else ""
            raise UsageError(
                f"the schedule is longer than the run: {self.warmup_steps} steps of optim.warmup{decay} "
                f"are more than optim.steps {self.steps}; shorten it, or raise optim.steps"
            )

    @property
    def decay_steps(self) -> int:
        """Steps of the decay of "wsd"; 0 for "cosine"."""
        return round(self.decay_fraction * self.steps) if self.name == "wsd" else 0


def learning_rate(step: int, settings: ScheduleSettings) -> float:
    """The rate of the update after which `step` + 1 are done; `step` counts from 0.

    No update is at rate 0: the first is at lr / warmup_steps, and the last is one step before the end of the decay,
    which step `steps` would reach.

    Raises:
        ValueError: `step` is not in [0, steps).
    """
    if not 0 <= step < settings.steps:
        raise ValueError(f"step {step} is not in [0, {settings.steps})")
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.name == "cosine":
        progress = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
        left = (1 + math.cos(math.pi * progress)) / 2
    else:
        start = settings.steps - settings.decay_steps
        progress = (step - start) / settings.decay_steps if step > start else 0.0
        left = 1 - (math.sqrt(progress) if settings.decay_shape == "sqrt" else progress)
    return settings.lr * (settings.min_fraction + (1 - settings.min_fraction) * left)
