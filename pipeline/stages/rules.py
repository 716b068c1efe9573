"""Presets of quality rules and the verdicts that they give on stored signals.

The preset `gopher` has the numbers of Rae et al., Scaling Language Models: Methods, Analysis & Insights from
Training Gopher, 2021, appendix A1.1 (quality) and table A1 (repetition), on the signals that `quality`
defines. Rules about English words (mean word length, stop words) hold for English; all others hold for every
language:

- At least 50 words: a letter of an unspaced script is one, so 50 Han letters are enough, some 30 English
  words. At most 100,000 English words, since in letters a Chinese book would be too long at three fifths of
  that length.
- Four words in five have a letter: ideographs are letters, so it is numbers that fail it.
- An n-gram of Han letters has more than n of them (`quality.ngram_words`), under the same thresholds. Share
  dropped by the repetition rules among pages of four Debian manuals and Apache's that are at hand in English
  and in translation (resiliparse main content, more than half of the words translated):

  ============  =====  =========  ================  ============================
  language      pages  n letters  n English words   the same pages in English
  ============  =====  =========  ================  ============================
  zh-CN            90     17.8 %             3.3 %                         2.2 %
  zh-TW            21     14.3 %             0.0 %                         0.0 %
  ja               68     89.7 %             7.4 %                         2.9 %
  ============  =====  =========  ================  ============================

  Medians of `dup_5_gram` on the 90 pages: .083 with n letters, .034 with ours, .033 in English.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline.stages.quality import SIGNALS, primary_subtag
from corpusmill.schemas.recipe import language_tag

STAGE_VERSION = 1

VERDICTS: Final = pa.schema(
    [
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
    ]
)
"""The schema of what `verdicts` returns."""

_SIGNALS = [signal.name for signal in SIGNALS]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Drops a document whose signal is below `minimum` or above `maximum`; at the threshold itself it stays.

    Attributes:
        name: stands in the ledger as the reason.
        signal: one of `quality.SIGNALS`; a document whose value is null stays.
        minimum: in the unit of the signal; None: no lower bound.
        maximum: likewise; None: no upper bound.
        languages: primary language subtags of the documents it applies to; None: all, unknown ones too.

    Raises:
        ValueError: the rule could never drop anything: unknown signal (the message names the nearest), no
            bound or one that is no number, languages that are none or no primary subtags.
    """

    name: str
    signal: str
    minimum: float | None = None
    maximum: float | None = None
    languages: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.signal not in _SIGNALS:
            raise _unknown(f"signal of rule {self.name}", self.signal, _SIGNALS)
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if not all(map(math.isfinite, bounds)):
            raise ValueError(f"rule {self.name}: thresholds are numbers, not {bounds}")
        if not bounds:
            raise ValueError(f"rule {self.name} has no bound: give a minimum or a maximum of {self.signal}")
        if self.languages is not None:
            self._check_languages(self.languages)

    def _check_languages(self, languages: frozenset[str]) -> None:
        if not languages:
            raise ValueError(f"rule {self.name} has no languages: name some, or give None for all")
        for tag in sorted(languages):
            subtag = primary_subtag(language_tag(tag))
            if tag != subtag:
                raise ValueError(f"rule {self.name}: {tag!r} is no primary language subtag; write {subtag!r}")


def _gopher(name: str, signal: str, **bounds: Any) -> Rule:
    return Rule(name=f"gopher_{name}", signal=signal, **bounds)


_ENGLISH = frozenset({"en"})
_REPETITION = {
    "dup_line_frac": 0.30,
    "dup_para_frac": 0.30,
    "dup_line_char_frac": 0.20,
    "dup_para_char_frac": 0.20,
    "top_2_gram": 0.20,
    "top_3_gram": 0.18,
    "top_4_gram": 0.16,
    "dup_5_gram": 0.15,
    "dup_6_gram": 0.14,
    "dup_7_gram": 0.13,
    "dup_8_gram": 0.12,
    "dup_9_gram": 0.11,
    "dup_10_gram": 0.10,
}

PRESETS: Final[Mapping[str, tuple[Rule, ...]]] = MappingProxyType(
    {
        "none": (),
        "gopher": (
            _gopher("short_doc", "n_words", minimum=50),
            _gopher("long_doc", "n_english_words", maximum=100_000),
            _gopher("short_words", "mean_word_length", minimum=3, languages=_ENGLISH),
            _gopher("long_words", "mean_word_length", maximum=10, languages=_ENGLISH),
            _gopher("symbol_word_ratio", "symbol_word_ratio", maximum=0.1),
            _gopher("ellipsis_word_ratio", "ellipsis_word_ratio", maximum=0.1),
            _gopher("bullet_line_ratio", "bullet_line_ratio", maximum=0.9),
            _gopher("ellipsis_line_ratio", "ellipsis_line_ratio", maximum=0.3),
            _gopher("alpha_word_ratio", "alpha_word_ratio", minimum=0.8),
            _gopher("stop_words", "stop_words", minimum=2, languages=_ENGLISH),
            *(_gopher(signal, signal, maximum=maximum) for signal, maximum in _REPETITION.items()),
        ),
    }
)
"""Rules by the name of their preset; frozen: other numbers get another name."""


def preset(name: str, thresholds: Mapping[str, float] | None = None) -> tuple[Rule, ...]:
    """The rules of a preset, some of them with other thresholds.

    Args:
        name: a key of `PRESETS`.
        thresholds: the bound to use instead, by the name of the rule.

    Raises:
        ValueError: no such preset or rule (the message names the nearest), or a threshold that is no number.
    """
    if name not in PRESETS:
        raise _unknown("quality preset", name, PRESETS)
    thresholds = thresholds or {}
    rules = {rule.name: rule for rule in PRESETS[name]}
    for unknown in sorted(thresholds.keys() - rules.keys()):
        raise _unknown(f"rule of the preset {name}", unknown, rules)
    return tuple(_moved(rule, thresholds.get(rule.name)) for rule in rules.values())


def _moved(rule: Rule, threshold: float | None) -> Rule:
    if threshold is None:
        return rule
    return replace(rule, minimum=threshold) if rule.maximum is None else replace(rule, maximum=threshold)


def _unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=3) or known
    return ValueError(f"{name!r} is no {kind}; did you mean {' or '.join(nearest)}?")


def verdicts(signals: pa.RecordBatch, languages: pa.Array, rules: Sequence[Rule]) -> pa.RecordBatch:
    """Which documents the rules keep, and why not the others.

    Args:
        signals: columns as in `quality.SCHEMA`, at least those that the rules name.
        languages: string, shape (n,), BCP 47 tags; null: unknown, only rules for all languages apply.
        rules: tried in this order.

    Returns:
        Columns as in `VERDICTS`, one row a document: of the first rule that drops it the name, the value of
        its signal and the threshold that it misses; null where `keep` is true.

    Raises:
        ValueError: a rule's signal is no column of `signals`, or `languages` has another length.
    """
    n = signals.num_rows
    if len(languages) != n:
        raise ValueError(f"{n} rows of signals but {len(languages)} languages: give one language a row")
    tags = pc.utf8_lower(languages.cast(pa.string()))
    subtags = pc.replace_substring_regex(tags, pattern="-.*", replacement="")
    first = np.full(n, -1)  # the first rule that drops the document
    value, threshold = np.zeros(n), np.zeros(n)
    for number, rule in enumerate(rules):
        if rule.signal not in signals.schema.names:
            raise _unknown("column of signals", rule.signal, signals.schema.names)
        measured = signals.column(rule.signal).cast(pa.float64()).to_numpy(zero_copy_only=False)  # null: NaN
        bound = np.full(n, np.nan)  # the one that is missed
        if rule.minimum is not None:
            bound[measured < rule.minimum] = rule.minimum
        if rule.maximum is not None:
            bound[measured > rule.maximum] = rule.maximum
        drops = ~np.isnan(bound) & (first < 0)
        if rule.languages is not None:
            drops &= pc.is_in(subtags, pa.array(sorted(rule.languages))).to_numpy(zero_copy_only=False)
        first[drops], value[drops], threshold[drops] = number, measured[drops], bound[drops]
    keep = first < 0
    names = pa.array([rule.name for rule in rules], type=pa.string())
    columns = [
        pa.array(keep),
        names.take(pa.array(first, mask=keep)),
        pa.array(value, mask=keep),
        pa.array(threshold, mask=keep),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=VERDICTS)
