"""The data plan: what every sample of a run was and will be, from a few numbers.

A run takes samples 0, 1, 2, …; a step takes the next `batch` of them. A change of weights, batch, sequence length or
data, or a range of samples passed over after a rollback, appends a segment. The plan and the number of the next
sample are the whole state of the data side of a run, so it goes on exactly, whatever the number of processes.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from corpusmill.schemas.errors import UsageError
from corpusmill.train.data.mixture import Mixture

__all__ = ["DataPlan", "Located", "Read", "Segment", "SegmentSource"]

_FOREVER = 1 << 62
_GAP = 4096
"""Samples closer than this to each other are dealt in one stretch, with those between them."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SegmentSource(_Model):
    """A dataset that a segment draws from.

    Attributes:
        fingerprint: of the dataset.
        n_windows: windows of the segment's sequence length in it.
        weight: its share of the samples, as a ratio to the other weights; 0 draws nothing.
    """

    fingerprint: str
    n_windows: int = Field(gt=0)
    weight: int


class Segment(_Model):
    """A stretch of a run under fixed settings, up to the start of the next segment.

    Attributes:
        first_step: the first step under these settings.
        first_sample: the first sample of that step; the mixture of the segment counts from here.
        batch: samples a step.
        sequence_length: tokens a sample.
        sources: one entry for each dataset.
        order: of the windows of an epoch.
        skipped: ranges (from, to) of samples that no step takes, one after the other, between the last step of the
            segment before and `first_sample`. They stay draws of the segment before, so their windows do not come
            back in that epoch.
        tombstones: sha256 of the dead positions by fingerprint, "" for none.
        seed: of the mixture and of the orders.

    Raises:
        UsageError: a dataset is named twice, or weights that `Mixture` refuses.
    """

    first_step: int
    first_sample: int
    batch: int = Field(gt=0)
    sequence_length: int = Field(gt=0)
    sources: tuple[SegmentSource, ...]
    order: Literal["global", "blocked"]
    skipped: tuple[tuple[int, int], ...] = ()
    tombstones: dict[str, str] = {}
    seed: int

    @model_validator(mode="after")
    def _can_be_dealt(self) -> "Segment":
        names = [source.fingerprint for source in self.sources]
        if len(set(names)) < len(names):
            raise UsageError(f"a dataset is named twice in {names}, expected each once, with one weight")
        _ = self.mixture
        return self

    @cached_property
    def mixture(self) -> Mixture:
        """The schedule of the sources; `first_sample` is its sample 0."""
        return Mixture(tuple(source.weight for source in self.sources), self.seed)


@dataclass(frozen=True)
class Located:
    """What samples are, one entry for each.

    Attributes:
        source: int64[B], positions in `DataPlan.fingerprints`.
        epoch: int64[B], of that source.
        index: int64[B], the place in that epoch; the source's order maps it to a window.
    """

    source: NDArray[np.int64]
    epoch: NDArray[np.int64]
    index: NDArray[np.int64]


_Stream = tuple[int, int, str, int]
"""Number of windows, sequence length, order, seed: as long as none changes, a place in an epoch is the same window."""


class Read(NamedTuple):
    """What a run has read of a dataset: tokens, and passes over it."""

    n_tokens: int
    epochs: float


@dataclass(frozen=True)
class _Count:
    """How far a source has been drawn.

    Attributes:
        stream: what it is drawn as.
        epoch: the first epoch of this stream.
        draws: from this stream.
        total: from all streams of the source.
    """

    stream: _Stream
    epoch: int = 0
    draws: int = 0
    total: int = 0

    def follow(self, stream: _Stream) -> "_Count":
        """The count with which the source goes on: in another stream, with an epoch that was never begun."""
        if stream == self.stream:
            return self
        n_windows = self.stream[0]
        begun = -(-self.draws // n_windows)
        return _Count(stream, epoch=self.epoch + begun, total=self.total)


class DataPlan(_Model):
    """The segments of a run, in order; only ever appended to.

    Attributes:
        segments: the first starts at step 0 and sample 0, each other one where the one before it ends.

    Raises:
        UsageError: a segment starts elsewhere.
    """

    segments: tuple[Segment, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _goes_forward_without_gaps(self) -> "DataPlan":
        first = self.segments[0]
        if (first.first_step, first.first_sample, first.skipped) != (0, 0, ()):
            raise UsageError(
                f"the first segment starts at step {first.first_step}, sample {first.first_sample} and skips "
                f"{list(first.skipped)}, expected step 0, sample 0 and nothing to skip"
            )
        for last, segment in pairwise(self.segments):
            if segment.first_step < last.first_step:
                raise UsageError(
                    f"a segment starts at step {segment.first_step}, but the one before it at step "
                    f"{last.first_step}; a plan is only appended to"
                )
            end = last.first_sample + (segment.first_step - last.first_step) * last.batch
            for start, stop in segment.skipped:
                if start != end or stop < start:
                    raise UsageError(
                        f"a segment skips samples {start} to {stop}, expected a range that starts at {end}, where the "
                        f"one before it ends"
                    )
                end = stop
            if segment.first_sample != end:
                raise UsageError(
                    f"a segment starts at sample {segment.first_sample}, but the one before it, with the ranges "
                    f"skipped, ends at sample {end}"
                )
        return self

    def append(self, segment: Segment) -> "DataPlan":
        """The plan with one more segment.

        Raises:
            UsageError: it does not start where the last one, with the ranges skipped, ends.
        """
        return DataPlan(segments=(*self.segments, segment))

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """All datasets, in order of first use."""
        return tuple(dict.fromkeys(source.fingerprint for segment in self.segments for source in segment.sources))

    @cached_property
    def _first_steps(self) -> list[int]:
        return [segment.first_step for segment in self.segments]

    @cached_property
    def _first_samples(self) -> list[int]:
        return [segment.first_sample for segment in self.segments]

    @cached_property
    def _counts(self) -> list[dict[str, _Count]]:
        """For each segment, the counts at its first sample, of every dataset used so far."""
        rows: list[dict[str, _Count]] = []
        for k, segment in enumerate(self.segments):
            counts = _count_on(rows[-1], self.segments[k - 1], segment.first_sample) if k else {}
            for source in segment.sources:
                stream = (source.n_windows, segment.sequence_length, segment.order, segment.seed)
                counts[source.fingerprint] = counts.get(source.fingerprint, _Count(stream)).follow(stream)
            rows.append(counts)
        return rows

    def segment_at(self, step: int) -> Segment:
        """The settings of a step (0 or more)."""
        return self.segments[_last_from(self._first_steps, step)]

    def samples_of(self, step: int) -> range:
        """The samples that a step (0 or more) takes."""
        segment = self.segment_at(step)
        first = segment.first_sample + (step - segment.first_step) * segment.batch
        return range(first, first + segment.batch)

    def step_of(self, sample: int) -> int | None:
        """The step that takes a sample (0 or more); None for one that is skipped."""
        segment = self.segments[_last_from(self._first_samples, sample)]
        step = segment.first_step + (sample - segment.first_sample) // segment.batch
        return step if sample in self.samples_of(step) else None

    def locate(self, samples: NDArray[np.int64] | Sequence[int]) -> Located:
        """What the given samples are.

        Args:
            samples: int64[B], each 0 or more, in any order.

        Raises:
            IndexError: a sample is below 0.
        """
        samples = np.asarray(samples, np.int64)
        if np.any(samples < 0):
            raise IndexError(f"sample {samples.min()}, expected 0 or more")
        located = Located(*np.empty((3, samples.size), np.int64))
        segments = np.searchsorted(self._first_samples, samples, side="right") - 1
        for k in np.unique(segments).tolist():
            own = np.flatnonzero(segments == k)
            segment = self.segments[k]
            names = [source.fingerprint for source in segment.sources]
            counts = [self._counts[k][name] for name in names]
            source, ordinal = _draws(segment.mixture, samples[own] - segment.first_sample)
            draw = ordinal + np.array([count.draws for count in counts])[source]
            epoch, index = np.divmod(draw, np.array([count.stream[0] for count in counts])[source])
            located.source[own] = np.array([self.fingerprints.index(name) for name in names])[source]
            located.epoch[own] = epoch + np.array([count.epoch for count in counts])[source]
            located.index[own] = index
        return located

    def find(self, source: int, epoch: int, index: int) -> int | None:
        """The sample at a place of an epoch of a source: the inverse of `locate`; None if no sample ever is."""
        name = self.fingerprints[source]
        ends = [*self._first_samples[1:], _FOREVER]
        for segment, counts, end in zip(self.segments, self._counts, ends, strict=True):
            names = [named.fingerprint for named in segment.sources]
            if name not in names:
                continue
            count = counts[name]
            n_windows = count.stream[0]
            ordinal = (epoch - count.epoch) * n_windows + index - count.draws
            found = segment.mixture.find(names.index(name), ordinal, end - segment.first_sample)
            if found is not None and 0 <= index < n_windows:
                return segment.first_sample + found
        return None

    def consumed(self, sample: int) -> dict[str, int]:
        """Draws by fingerprint among the samples before `sample` (0 or more), skipped ones included."""
        k = _last_from(self._first_samples, sample)
        counts = _count_on(self._counts[k], self.segments[k], sample)
        return {name: counts[name].total if name in counts else 0 for name in self.fingerprints}

    def read(self, step: int) -> dict[str, "Read"]:
        """What the steps before `step` read, by fingerprint; skipped samples were not."""
        found = dict.fromkeys(self.fingerprints, Read(0, 0.0))
        ends = [*(segment.first_step for segment in self.segments[1:]), step]
        for segment, end in zip(self.segments, ends, strict=True):
            n_samples = max(0, min(end, step) - segment.first_step) * segment.batch
            for source, n in zip(segment.sources, segment.mixture.counts(n_samples), strict=True):
                before = found[source.fingerprint]
                found[source.fingerprint] = Read(
                    before.n_tokens + n * segment.sequence_length, before.epochs + n / source.n_windows
                )
        return found


def _last_from(starts: list[int], number: int) -> int:
    """The last of the ranges that begin at `starts` to begin at `number` or before."""
    if number < 0:
        raise IndexError(f"a step or sample {number}, expected 0 or more")
    return bisect_right(starts, number) - 1


def _count_on(counts: dict[str, _Count], segment: Segment, sample: int) -> dict[str, _Count]:
    """The counts at `sample`, which the segment reaches, from those at its first sample."""
    counts = dict(counts)
    drawn = segment.mixture.counts(sample - segment.first_sample)
    for source, n in zip(segment.sources, drawn, strict=True):
        count = counts[source.fingerprint]
        counts[source.fingerprint] = replace(count, draws=count.draws + n, total=count.total + n)
    return counts


def _draws(mixture: Mixture, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`Mixture.draws` for samples in any order, those that lie close together dealt in one stretch."""
    found, inverse = np.unique(samples, return_inverse=True)
    drawn = []
    for near in np.split(found, np.flatnonzero(np.diff(found) >= _GAP) + 1):
        source, ordinal = mixture.draws(int(near[0]), int(near[-1] - near[0]) + 1)
        drawn.append((source[near - near[0]], ordinal[near - near[0]]))
    source, ordinal = map(np.concatenate, zip(*drawn, strict=True))
    return source[inverse], ordinal[inverse]
