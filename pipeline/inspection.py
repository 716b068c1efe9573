"""What people look at: the funnel of a run, the statistics of a dataset or a shard, how far a run is."""

import json
import posixpath
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from corpusmill.schemas import lease
from corpusmill.schemas.errors import UsageError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, totals_by
from corpusmill.schemas.parquet import read_table
from corpusmill.schemas.tables import REJECT, SHARD, is_damage

__all__ = ["describe", "describe_run", "describe_status", "print_dataset", "print_run", "print_status"]

STAGES = (
    ("read", "records of the sources"),
    ("worker", "units that killed their worker"),
    ("extract", "HTML or wikitext to text"),
    ("language", "languages of the recipe"),
    ("edits", "text left after the edits"),
    ("quality", "quality rules"),
    ("dedup", "copies"),
)
"""Stages at which a record can end, in order."""

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_SHOWN = 12
_SAMPLED_SHARDS = 8
_SHOWN_DAMAGE = 100


def describe(path: str, samples: int = 0) -> tuple[str, dict[str, Any]]:
    """Statistics of whatever a path holds.

    Returns:
        run, dataset or shard, and what the matching `print_` function shows.

    Raises:
        UsageError: the path holds none of them.
    """
    if path.endswith(".parquet"):
        folder, _, name = path.rpartition("/")
        files = Files(folder or ".")
        if not files.exists(name):
            raise UsageError(f"there is no file {path}")
        try:
            return "shard", _describe_rows(files, [name], samples) | {"name": name}
        except pa.ArrowInvalid as error:
            raise UsageError(f"{path} is not a Parquet file: {error}") from error
    files = Files(path)
    if files.exists("run.json"):
        return "run", describe_run(path)
    if files.exists("manifest.json"):
        return "dataset", _describe_dataset(files, samples)
    hint = ""
    if files.exists("commits"):
        hint = f"; it is a run that has not ended, try: corpusmill status {path}"
    raise UsageError(f"{path} holds neither run.json nor manifest.json, and is no .parquet file{hint}")


def describe_run(path: str) -> dict[str, Any]:
    """The report of the last run that ended, its funnel, and places of damage (at most `_SHOWN_DAMAGE`)."""
    files = Files(path)
    report: dict[str, Any] = json.loads(files.read_bytes("run.json"))
    books = report["books"]
    left = books["records"]
    funnel = []
    for stage, what in STAGES:
        reasons = {reason: n for _, at, reason, n in books["reasons"] if at == stage}
        if stage == "worker" and not reasons:
            continue
        dropped = sum(reasons.values())
        left -= dropped
        funnel.append({"stage": stage, "what": what, "dropped": dropped, "left": left, "reasons": reasons})
    return report | {"funnel": funnel, "damage": _damage(files, report)}


def _damage(files: Files, report: dict[str, Any]) -> list[dict[str, Any]]:
    if not report["books"]["damaged"]:
        return []
    places: list[dict[str, Any]] = []
    for name in files.list("rejects"):
        rows = read_table(files, name, REJECT, ["file_path", "offset", "length", "stage", "reason"])
        places += rows.filter(is_damage(rows.column("reason"))).to_pylist()
    return places[:_SHOWN_DAMAGE]


def _describe_dataset(files: Files, samples: int) -> dict[str, Any]:
    manifest = Manifest.from_json(files.read_bytes("manifest.json"), files.path("manifest.json"))
    described = _describe_rows(files, [shard.name for shard in manifest.shards], samples)
    return described | {
        "name": manifest.recipe["name"],
        "fingerprint": manifest.fingerprint,
        "splits": {name: total.model_dump() for name, total in manifest.splits.items()},
        "shards": [
            {"name": s.name, "rows": s.rows, "tokens": s.tokens, "file_bytes": s.file_bytes} for s in manifest.shards
        ],
        "vocab_size": manifest.tokenizer.vocab_size,
        "ledger": manifest.ledger,
    }


def _describe_rows(files: Files, names: Sequence[str], samples: int) -> dict[str, Any]:
    columns = ["id", "n_tokens", "n_bytes", "language", "source", "cluster_size"]
    tables = [read_table(files, name, SHARD, columns) for name in names]
    rows = pa.concat_tables(tables) if tables else pa.table({name: [] for name in columns})
    lengths = {}
    if rows.num_rows:
        for column in ("n_tokens", "n_bytes"):
            values = pc.quantile(rows.column(column), list(_QUANTILES), interpolation="nearest").to_pylist()
            lengths[column] = {f"p{q * 100:g}": int(v) for q, v in zip(_QUANTILES, values, strict=True)}
    return {
        "totals": {
            "rows": rows.num_rows,
            "tokens": pc.sum(rows.column("n_tokens")).as_py() or 0,
            "text_bytes": pc.sum(rows.column("n_bytes")).as_py() or 0,
            "represented": pc.sum(rows.column("cluster_size")).as_py() or 0,
        },
        "languages": _group(rows, "language"),
        "sources": _group(rows, "source"),
        "lengths": lengths,
        "samples": _samples(files, names, samples),
    }


def _group(rows: pa.Table, column: str) -> dict[str, dict[str, int]]:
    """Totals by a column, the largest first."""
    if not rows.num_rows:
        return {}
    return dict(sorted(totals_by(rows, column).items(), key=lambda item: -item[1]["tokens"]))


def _samples(files: Files, names: Sequence[str], n: int) -> list[dict[str, Any]]:
    """Documents in turn by language: shards are in hash order, so their first row groups are as good as any."""
    found: list[dict[str, Any]] = []
    for name in names[:_SAMPLED_SHARDS] if n else ():
        table = read_table(files, name, SHARD, row_groups=[0])
        columns = [c for c in ("id", "url", "source", "language", "n_tokens", "text") if c in table.schema.names]
        found += table.select(columns).to_pylist()
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        by_language.setdefault(row["language"], []).append(row)
    queues = sorted(by_language.values(), key=len, reverse=True)
    return [queue[i] for i in range(len(found)) for queue in queues if i < len(queue)][:n]


def describe_status(path: str) -> dict[str, Any]:
    """Who holds a run folder, and by job: units committed, units begun without an end."""
    from corpusmill.pipeline.jobs import JOBS

    files = Files(path)
    if not files.exists("recipe.json"):
        raise UsageError(f"{path} is not a run folder: it holds no recipe.json; see corpusmill run --help")
    jobs = {
        job: {
            "committed": len(files.list(f"commits/{job}")),
            "begun_without_end": {
                posixpath.basename(name).removesuffix(".json"): json.loads(mark)["started"]
                for name in files.list(f"attempts/{job}")
                if (mark := files.read_or_none(name)) is not None  # a run goes on while we look
            },
        }
        for job in JOBS
    }
    return {"folder": path, "held_by": lease.holder(files), "ended": files.exists("run.json"), "jobs": jobs}


def print_run(described: dict[str, Any], console: Console) -> None:
    """The funnel, then languages, charsets, damage."""
    books = described["books"]
    table = Table("stage", "", "dropped", "left", "reasons", box=None, title="funnel", title_justify="left")
    table.columns[2].justify = table.columns[3].justify = "right"
    table.add_row("", "input records", "", f"{books['records']:,}", "")
    for row in described["funnel"]:
        reasons = sorted(row["reasons"].items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{reason} {n:,}" for reason, n in reasons[:4]) + (", …" if len(reasons) > 4 else "")
        table.add_row(row["stage"], row["what"], f"{row['dropped']:,}", f"{row['left']:,}", told)
    console.print(table)
    names = [stage for stage, _ in STAGES if any(stage in ends for ends in books["languages"].values())]
    table = Table(
        "language",
        "documents",
        *(f"- {n}" for n in names),
        "kept",
        box=None,
        title="\nby language",
        title_justify="left",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    ranked = sorted(books["languages"].items(), key=lambda item: (-sum(item[1].values()), item[0]))
    for language, ends in ranked[:_SHOWN]:
        _add_language(table, language, ends, names)
    if len(ranked) > _SHOWN:
        rest = {name: sum(ends.get(name, 0) for _, ends in ranked[_SHOWN:]) for name in (*names, "kept")}
        _add_language(table, f"{len(ranked) - _SHOWN} others", rest, names)
    console.print(table)
    counts = described["jobs"]["extract"]["counts"]
    charsets = {key.removeprefix("charset_"): n for key, n in counts.items() if key.startswith("charset_")}
    told = ", ".join(f"{name} {n:,}" for name, n in sorted(charsets.items(), key=lambda item: (-item[1], item[0])))
    console.print(f"\ncharsets: {told or 'none'}")
    for place in described["damage"]:
        where = f"{place['file_path']} at byte {place['offset']:,}"
        console.print(f"{place['reason']}: {where} ({place['length'] or 'unknown'} bytes)")


def _add_language(table: Table, language: str, ends: dict[str, int], names: Sequence[str]) -> None:
    values = (sum(ends.values()), *(ends.get(name, 0) for name in names), ends.get("kept", 0))
    table.add_row(language, *(f"{value:,}" for value in values))


def print_dataset(described: dict[str, Any], console: Console) -> None:
    """Totals, splits, languages, sources, lengths, drop reasons, samples."""
    totals = described["totals"]
    console.print(
        f"{described['name']}: {totals['rows']:,} documents (for {totals['represented']:,} with their copies), "
        f"{totals['tokens']:,} tokens, {totals['text_bytes']:,} bytes of text"
    )
    if "fingerprint" in described:
        console.print(
            f"fingerprint {described['fingerprint']}, {len(described['shards'])} shards, "
            f"vocabulary {described['vocab_size']:,}"
        )
    for name in ("splits", "languages", "sources"):
        if name in described:
            _print_totals(name, described[name], console)
    if described["lengths"]:
        table = Table("length", *described["lengths"]["n_tokens"], box=None)
        for column, values in described["lengths"].items():
            table.add_row(column, *(f"{value:,}" for value in values.values()))
        console.print("")
        console.print(table)
    if "ledger" in described:
        table = Table("dropped by", "reason", "records", box=None)
        for _, stage, reason, n in sorted(described["ledger"]["reasons"], key=lambda row: -row[3]):
            table.add_row(stage, reason, f"{n:,}")
        console.print("")
        console.print(table)
    for sample in described["samples"]:
        console.rule(
            f"{sample['language']}  {sample.get('url') or sample['id']}  {sample['n_tokens']:,} tokens", align="left"
        )
        text = sample.get("text", "(this dataset holds no text)")
        console.print(text if len(text) <= 600 else text[:600] + " …", markup=False)


def _print_totals(name: str, groups: dict[str, dict[str, int]], console: Console) -> None:
    table = Table(name, "documents", "tokens", "bytes", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for key, value in groups.items():
        table.add_row(key, f"{value['rows']:,}", f"{value['tokens']:,}", f"{value['text_bytes']:,}")
    console.print("")
    console.print(table)


def print_status(described: dict[str, Any], console: Console) -> None:
    """One line a job."""
    held = described["held_by"]
    state = (
        f"running: process {held['pid']} on {held['host']}" if held else ("ended" if described["ended"] else "stopped")
    )
    console.print(f"{described['folder']}: {state}")
    table = Table("job", "units committed", "begun without an end", box=None)
    for job, values in described["jobs"].items():
        begun = ", ".join(f"{unit} ({n}x)" for unit, n in values["begun_without_end"].items())
        table.add_row(job, f"{values['committed']:,}", begun)
    console.print(table)
