"""Keep or drop: a pure function of what is stored about a document. The first failing rule is the reason."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline.stages import rules as quality_rules
from corpusmill.pipeline.stages.quality import SCHEMA
from corpusmill.pipeline.stages.rules import Rule
from corpusmill.schemas.config_file import nearest
from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.parquet import one_batch
from corpusmill.schemas.recipe import Language, Quality, Recipe
from corpusmill.schemas.tables import VERDICT

__all__ = ["Selection", "check_rules", "describe", "resolve_rules", "select"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What a document must pass, in this order: language, its score, having text left, the rules.

    Attributes:
        language: which languages stay, and the least score.
        rules: heuristics on raw signals.
    """

    language: Language
    rules: tuple[Rule, ...]


def resolve_rules(quality: Quality) -> tuple[Rule, ...]:
    """The rules of a preset with the recipe's own numbers.

    Raises:
        ValueError: an unknown preset or rule, with the nearest name.
    """
    return quality_rules.preset(quality.preset, quality.thresholds)


def select(documents: pa.Table, refined: pa.Table, selection: Selection) -> pa.Table:
    """Judge the documents of a unit.

    Args:
        documents: `id`, `language`, `language_score` of `tables.DOCUMENT`.
        refined: `n_chars` of `tables.REFINED` and the raw signals, row by row the same documents.
        selection: what to pass.

    Returns:
        Rows of `tables.VERDICT`. `value` and `threshold` are null where a rule is not about a number.
    """
    tags = documents.column("language").combine_chunks()
    kept_tags = [tag for tag in pc.unique(tags).to_pylist() if selection.language.keeps(tag)]
    score = documents.column("language_score").combine_chunks()
    n_chars = refined.column("n_chars").combine_chunks()
    checks: list[tuple[pa.Array, str, str, pa.Array | None, float | None]] = [
        (pc.invert(pc.is_in(tags, pa.array(kept_tags, pa.string()))), "language", "language_not_kept", None, None),
        (
            pc.less(score, selection.language.min_score),
            "language",
            "language_score",
            score,
            selection.language.min_score,
        ),
        (pc.fill_null(pc.equal(n_chars, 0), False), "edits", "no_text_left", None, None),
    ]
    n_rows = documents.num_rows
    judged = quality_rules.verdicts(one_batch(refined), tags, selection.rules)
    keep, reason, value, threshold = (judged.column(name) for name in ("keep", "reason", "value", "threshold"))
    stage = pc.if_else(keep, pa.scalar(None, pa.string()), "quality")
    for failed, at, name, measured, limit in reversed(checks):
        keep = pc.and_(keep, pc.invert(failed))
        stage = pc.if_else(failed, at, stage)
        reason = pc.if_else(failed, name, reason)
        value = pc.if_else(failed, pa.nulls(n_rows, pa.float64()) if measured is None else measured, value)
        threshold = pc.if_else(failed, pa.scalar(limit, pa.float64()), threshold)
    columns = {
        "id": documents.column("id"),
        "keep": keep,
        "stage": stage,
        "reason": reason,
        "value": value,
        "threshold": threshold,
    }
    return pa.table(columns).cast(VERDICT.columns)


def describe(rules: Sequence[Rule]) -> list[list[object]]:
    """The rules as plain values, for a fingerprint."""
    return [
        [rule.name, rule.signal, rule.minimum, rule.maximum, sorted(rule.languages) if rule.languages else None]
        for rule in rules
    ]


def check_rules(recipe: Recipe) -> None:
    """Refuse rules and signals that do not exist: a rule that can never fire is an error.

    Raises:
        RecipeError: naming the field and the nearest name.
    """
    try:
        resolve_rules(recipe.quality)
    except ValueError as error:
        raise RecipeError(f"quality: {error}") from error
    names = [*SCHEMA.names]
    if recipe.dedup != "none" and recipe.dedup.quality not in ("none", *names):
        raise RecipeError(
            f"dedup.quality: {recipe.dedup.quality!r} is no signal; {nearest(recipe.dedup.quality, names)}"
        )
