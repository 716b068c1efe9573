"""manifest: the books of the run are balanced, then tokenizer, card and manifest make the dataset folder whole.

Books that do not balance fail the run: the ids that the ledger calls kept must be the ids that stand in the shards.
"""

import importlib.metadata
from typing import Any

from corpusmill.pipeline import card
from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs, require
from corpusmill.pipeline.jobs.shard import DATASET
from corpusmill.pipeline.jobs.tokenizer import TOKENIZER
from corpusmill.schemas.commits import Commit
from corpusmill.schemas.errors import LedgerError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, ManifestTokenizer, RowGroup, Shard, Totals, dataset_fingerprint

__all__ = ["MANIFEST", "ManifestJob", "balance", "make_manifest"]

STAGE_VERSION = 1
MANIFEST = f"{DATASET}/manifest.json"

_SHAPING = ("corpusmill", "fasttext-numpy2", "pyarrow", "resiliparse", "tokenizers", "datasketch", "xxhash", "isal")


class ManifestJob:
    """One task in all: balance the books, then publish tokenizer, card and manifest beside the shards."""

    name = "manifest"
    heavy = False
    folders: tuple[str, ...] = (f"{DATASET}/tokenizer", f"{DATASET}/README.md", MANIFEST)

    def tasks(self, run: RunState) -> list[Task]:
        """The one task, on top of all ledgers, all shards and the tokenizer."""
        shards, ledgers = run.commits["shard"], run.commits["close"]
        tokenizer = run.commits["tokenizer"]["tokenizer"]
        libraries = {name: importlib.metadata.version(name) for name in _SHAPING}
        recipe = run.recipe.without_paths()
        inputs = [tokenizer.digest, [c.digest for c in shards.values()], [c.digest for c in ledgers.values()]]
        spec = {"recipe": recipe, "libraries": libraries, "shards": list(shards), "ledgers": list(ledgers)}
        mark = fingerprint(self.name, STAGE_VERSION, [recipe, libraries], inputs)
        return [Task(job=self.name, unit="dataset", fingerprint=mark, spec=spec)]

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Check and publish.

        Raises:
            LedgerError: verdicts, records and shard rows do not add up.
        """
        ledgers = [require(files, "close", unit) for unit in task.spec["ledgers"]]
        shards = [require(files, "shard", unit) for unit in task.spec["shards"]]
        tokenizer = require(files, "tokenizer", "tokenizer")
        books = balance(ledgers, shards)
        manifest = make_manifest(shards, tokenizer, books, task.spec["recipe"], task.spec["libraries"])
        with outputs(files, self.name, task.unit, watch) as out:
            out.blob(f"{DATASET}/{manifest.tokenizer.path}", files.read_bytes(TOKENIZER))
            out.blob(f"{DATASET}/README.md", card.dataset_card(manifest).encode())
            out.blob(MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
            out.commit(task.fingerprint, {"shards": len(shards), "records": books["records"]})


def balance(ledgers: list[Commit], shards: list[Commit]) -> dict[str, Any]:
    """The books of a run.

    Returns:
        `records`, `kept`, `dropped`, `damaged`; `reasons`: rows (verdict, stage, reason, records); `languages`:
        documents by language and the stage that dropped them, or `kept`.

    Raises:
        LedgerError: they do not add up.
    """
    totals = {key: sum(c.counts.get(key, 0) for c in ledgers) for key in ("records", "kept", "dropped", "damaged")}
    if totals["records"] != totals["kept"] + totals["dropped"] + totals["damaged"]:
        raise LedgerError(f"the verdicts do not sum to the records: {totals}")
    kept_ids = sum(int(c.detail["id_sum"], 16) for c in ledgers) % (1 << 128)
    shard_ids = sum(int(c.detail["id_sum"], 16) for c in shards) % (1 << 128)
    n_rows = sum(c.counts["rows"] for c in shards)
    if n_rows != totals["kept"] or kept_ids != shard_ids:
        raise LedgerError(
            f"the ledger keeps {totals['kept']} records, the shards hold {n_rows} rows"
            + ("" if kept_ids == shard_ids else ", and their ids differ")
        )
    reasons: dict[tuple[str, str, str], int] = {}
    for commit in ledgers:
        for verdict, stage, reason, n in commit.detail["reasons"]:
            reasons[verdict, stage, reason] = reasons.get((verdict, stage, reason), 0) + n
    languages: dict[str, dict[str, int]] = {}
    for commit in ledgers:
        for language, end, n in commit.detail["languages"]:
            ends = languages.setdefault(language, {})
            ends[end] = ends.get(end, 0) + n
    return totals | {
        "reasons": [[*key, n] for key, n in sorted(reasons.items())],
        "languages": {language: languages[language] for language in sorted(languages)},
    }


def make_manifest(
    shards: list[Commit],
    tokenizer: Commit,
    books: dict[str, Any],
    recipe: dict[str, Any],
    libraries: dict[str, str],
) -> Manifest:
    """The manifest of the dataset that these commits make."""
    entries = [
        Shard(
            name=commit.detail["name"],
            split=commit.detail["split"],
            generation=commit.detail["generation"],
            rows=commit.counts["rows"],
            tokens=commit.counts["tokens"],
            text_bytes=commit.counts["text_bytes"],
            file_bytes=commit.outputs[0].n_bytes,
            sha256=commit.outputs[0].sha256,
            row_groups=[RowGroup(**group) for group in commit.detail["row_groups"]],
            languages=commit.detail["languages"],
            sources=commit.detail["sources"],
        )
        for commit in shards
    ]
    return Manifest(
        fingerprint=dataset_fingerprint(tokenizer.detail["sha256"], entries),
        shards=entries,
        totals=_add(entries),
        splits={s: _add([e for e in entries if e.split == s]) for s in dict.fromkeys(e.split for e in entries)},
        languages=_add_by([e.languages for e in entries]),
        sources=_add_by([e.sources for e in entries]),
        tokenizer=ManifestTokenizer(path=TOKENIZER, **tokenizer.detail),
        recipe=recipe,
        libraries=libraries,
        ledger=books,
    )


def _add(items: list[Any]) -> Totals:
    return Totals(
        rows=sum(item.rows for item in items),
        tokens=sum(item.tokens for item in items),
        text_bytes=sum(item.text_bytes for item in items),
    )


def _add_by(groups: list[dict[str, Totals]]) -> dict[str, Totals]:
    names = sorted({name for group in groups for name in group})
    return {name: _add([group[name] for group in groups if name in group]) for name in names}
