"""A whole run on a small corpus: the books balance, the shards are right, and every record can be followed."""

import functools
import hashlib
import http.server
import importlib
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import datasets
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from corpusmill.pipeline.jobs.dedup import split_of
from corpusmill.pipeline.run import run
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, dataset_fingerprint
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json
from tests.corpus import page, prose, response, small_corpus, write_jsonl, write_warc
from tests.digest import contents
from tests.end_to_end.conftest import Finished


def table(out: Path, folder: str) -> pa.Table:
    return ds.dataset(out / folder, format="parquet").to_table()


def shards(out: Path) -> pa.Table:
    return table(out, "dataset/data")


def manifest(out: Path) -> Manifest:
    return Manifest.from_json((out / "dataset" / "manifest.json").read_bytes(), "manifest.json")


# The books


def test_every_record_has_exactly_one_verdict(finished: Finished) -> None:
    ledger = table(finished.out, "ledger")
    documents, rejects = table(finished.out, "documents"), table(finished.out, "rejects")
    assert ledger.num_rows == documents.num_rows + rejects.num_rows == finished.report.books["records"]
    assert set(ledger.column("verdict").to_pylist()) == {"kept", "dropped"}
    kept = [row["id"] for row in ledger.to_pylist() if row["verdict"] == "kept"]
    assert sorted(kept) == sorted(shards(finished.out).column("id").to_pylist())
    assert all((row["verdict"] == "kept") == (row["reason"] is None) for row in ledger.to_pylist())


def test_the_reasons_are_those_that_the_corpus_was_made_for(finished: Finished) -> None:
    reasons = Counter(row["reason"] for row in table(finished.out, "ledger").to_pylist())
    assert reasons["redirect"] == 3 + 1, "three moved pages, one wiki redirect"
    assert reasons["no_text"] == 1
    assert reasons["duplicate_record"] == 1, "row-0 comes twice"
    assert reasons["duplicate_exact"] >= 3, "the mirror's pages"
    assert reasons["duplicate_url"] == 3, "three later fetches of one address"
    assert reasons["gopher_short_doc"] >= 3


def test_a_later_fetch_of_an_address_stays(finished: Finished) -> None:
    fetches = [row for row in table(finished.out, "documents").to_pylist() if row["url"] == "http://en.example/3"]
    newest = max(fetches, key=lambda row: row["date"])
    assert len(fetches) == 4
    ledger = {row["id"]: row for row in table(finished.out, "ledger").to_pylist()}
    lost = [row for row in fetches if ledger[row["id"]]["reason"] == "duplicate_url"]
    assert newest not in lost
    winners = {row["duplicate_of"] for row in table(finished.out, "duplicates").to_pylist() if row["kind"] == "url"}
    assert winners == {newest["id"]}


def test_a_number_that_decided_stands_beside_its_threshold(finished: Finished) -> None:
    rows = {row["reason"]: row for row in table(finished.out, "ledger").to_pylist()}
    short, near = rows["gopher_short_doc"], rows["duplicate_near"]
    assert short["value"] < short["threshold"] == 50
    assert near["value"] >= near["threshold"] == 0.75
    assert rows["duplicate_exact"]["value"] is None


def test_the_manifest_describes_the_shards(finished: Finished) -> None:
    found = manifest(finished.out)
    rows = shards(finished.out)
    assert found.totals.rows == rows.num_rows == found.ledger["kept"]
    assert found.totals.tokens == sum(rows.column("n_tokens").to_pylist())
    assert found.totals.text_bytes == sum(len(text.encode()) for text in rows.column("text").to_pylist())
    assert {s.name for s in found.shards} == {f"data/{p.name}" for p in (finished.out / "dataset/data").iterdir()}
    for shard in found.shards:
        data = (finished.out / "dataset" / shard.name).read_bytes()
        assert (shard.sha256, shard.file_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert sum(group.rows for group in shard.row_groups) == shard.rows
    assert found.fingerprint == dataset_fingerprint(found.tokenizer.sha256, found.shards)
    assert str(finished.out.parent) not in found.model_dump_json(), "no path of this machine"


def test_where_a_document_came_from_can_be_read_again(finished: Finished, tmp_path: Path) -> None:
    import gzip

    row = next(r for r in shards(finished.out).to_pylist() if r["source"] == "crawl" and r["language"] == "en")
    document = next(d for d in table(finished.out, "documents").to_pylist() if d["id"] == row["id"])
    root = Path(finished.fields["sources"][0]["paths"][0]).parent
    data = (root / row["file_path"]).read_bytes()[row["offset"] : row["offset"] + document["length"]]
    assert f"WARC-Target-URI: {row['url']}".encode() in gzip.decompress(data)


def test_commit_records_hold_no_time_host_or_path(finished: Finished) -> None:
    for path in (finished.out / "commits").rglob("*.json"):
        text = path.read_text()
        assert str(finished.out.parent) not in text, path
        assert set(json.loads(text)) == {"job", "unit", "fingerprint", "outputs", "counts", "detail"}


# The text


def test_a_page_with_special_strings_never_makes_a_special_token(finished: Finished) -> None:
    tokenizer = from_json((finished.out / "dataset/tokenizer/tokenizer.json").read_bytes())
    rows = [row for row in shards(finished.out).to_pylist() if "<|endoftext|>" in row["text"]]
    assert rows
    for row in shards(finished.out).to_pylist():
        assert min(row["input_ids"]) >= len(SPECIAL_TOKENS)
        assert tokenizer.decode(row["input_ids"], skip_special_tokens=False) == row["text"]
        assert row["n_tokens"] == len(row["input_ids"])


def test_chinese_passes_every_stage(finished: Finished) -> None:
    rows = [row for row in shards(finished.out).to_pylist() if row["language"] == "zh-Hans"]
    documents = [row for row in table(finished.out, "documents").to_pylist() if row["language"] == "zh-Hans"]
    assert len(documents) >= 18
    assert len(rows) >= 0.8 * len(documents), "the rules do not drop Chinese"
    paragraphs = prose("zh")
    for row in rows:
        assert any(paragraph in row["text"] for paragraph in paragraphs), "gb18030 was decoded, nothing was cut"
        assert row["n_tokens"] < row["n_bytes"]


def test_wikitext_became_text(finished: Finished) -> None:
    rows = [row for row in table(finished.out, "documents").to_pylist() if row["source"] == "enwiki-20261101"]
    assert len(rows) == 7
    assert all("'''" not in row["text"] and row["url"].startswith("https://en.wikipedia.org/wiki/") for row in rows)


# The splits


def test_the_tokenizer_learns_from_the_train_split_only(finished: Finished) -> None:
    learnt_from = finished.report.jobs["tokenizer"]["counts"]
    train = manifest(finished.out).splits["train"]
    assert (learnt_from["documents"], learnt_from["bytes"]) == (train.rows, train.text_bytes)


def test_no_component_spans_two_splits(finished: Finished) -> None:
    component = {row["id"]: row["component"] for row in table(finished.out, "clusters").to_pylist()}
    split_of_component: dict[str, str] = {}
    for path in sorted((finished.out / "dataset/data").iterdir()):
        split = path.name.split("-")[0]
        for row_id in ds.dataset(path).to_table(columns=["id"]).column("id").to_pylist():
            key = component.get(row_id, row_id)
            assert split_of_component.setdefault(key, split) == split
            assert split == split_of(key, {"validation": 0.2})
    assert set(split_of_component.values()) == {"train", "validation"}


def test_cluster_sizes_count_every_document_that_was_not_dropped_otherwise(finished: Finished) -> None:
    represented = sum(shards(finished.out).column("cluster_size").to_pylist())
    verdicts = table(finished.out, "verdicts")
    assert represented == verdicts.column("keep").to_pylist().count(True)


# Other people's tools


def test_datasets_loads_the_folder(finished: Finished, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(finished.out / "dataset"), cache_dir=str(tmp_path))
    assert {split: loaded[split].num_rows for split in loaded} == {
        split: totals.rows for split, totals in manifest(finished.out).splits.items()
    }
    assert loaded["train"].features["input_ids"].feature.dtype == "uint16"


def test_duckdb_queries_the_shards(finished: Finished) -> None:
    pattern = finished.out / "dataset/data/*.parquet"
    found = duckdb.sql(
        f"select language, count(*), sum(len(input_ids)) from '{pattern}' group by 1 order by 1"
    ).fetchall()
    totals = manifest(finished.out).languages
    assert found == [(name, total.rows, total.tokens) for name, total in totals.items()]


# Downloads


class Quiet(http.server.SimpleHTTPRequestHandler):
    requested: ClassVar[list[str]] = []

    def log_request(self, code: object = "-", size: object = "-") -> None:
        if self.command == "GET":
            self.requested.append(self.path)


def test_inputs_by_http_give_the_same_dataset_and_are_fetched_once(finished: Finished, tmp_path: Path) -> None:
    folder = Path(finished.fields["sources"][1]["paths"][0]).parent
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        sources = []
        for source in finished.fields["sources"]:
            files = sorted(folder.glob(str(Path(source["paths"][0]).relative_to(folder))))
            sources.append(source | {"paths": [f"{base}/{file.relative_to(folder)}" for file in files]})
        recipe = Recipe.model_validate(finished.fields | {"sources": sources})
        for _ in range(2):
            run(recipe, str(tmp_path / "run"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
    assert len(Quiet.requested) == len(set(Quiet.requested)) == 3 + 2 + 1, "three crawls, dump and index, the notes"


# Degenerate inputs


def jsonl_recipe(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Recipe:
    write_jsonl(folder / "rows.jsonl", rows)
    source = {"kind": "jsonl", "name": "rows", "paths": [str(folder / "rows.jsonl")]}
    return Recipe.model_validate({"sources": [source], "tokenizer": {"train": {"vocab_size": 512}}} | changes)


def test_an_empty_input(tmp_path: Path) -> None:
    report = run(jsonl_recipe(tmp_path, []), str(tmp_path / "run"))
    assert report.books["records"] == 0
    assert report.exit_code == 0
    found = manifest(tmp_path / "run")
    assert found.shards == []
    assert found.tokenizer.vocab_size >= len(SPECIAL_TOKENS) + 256


def test_everything_is_dropped(tmp_path: Path) -> None:
    report = run(jsonl_recipe(tmp_path, [{"text": "Too short."}, {"text": "太短。"}]), str(tmp_path / "run"))
    assert (report.books["records"], report.books["kept"]) == (2, 0)
    assert not list((tmp_path / "run/dataset").glob("data/*")), "an empty split has no file"


def test_the_nones_let_everything_through(tmp_path: Path) -> None:
    rows = [{"text": "Short."}, {"text": "Short."}, {"text": "短。"}, {"text": "{{ | }}"}]
    recipe = jsonl_recipe(tmp_path, rows, quality={"preset": "none"}, dedup="none")
    report = run(recipe, str(tmp_path / "run"))
    assert report.books["kept"] == 4


def test_a_given_tokenizer_is_used_as_it_is(finished: Finished, tmp_path: Path) -> None:
    path = finished.out / "dataset/tokenizer/tokenizer.json"
    rows = [{"text": "\n".join(prose("en")[i : i + 3])} for i in range(6)]
    run(jsonl_recipe(tmp_path, rows, tokenizer={"path": str(path)}), str(tmp_path / "run"))
    assert (tmp_path / "run/dataset/tokenizer/tokenizer.json").read_bytes() == path.read_bytes()


# What reruns and what does not


def commits(out: Path, job: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "commits" / job).iterdir()}


def test_a_changed_threshold_runs_select_and_nothing_before_it(tmp_path: Path) -> None:
    fields = small_corpus(tmp_path / "corpus")
    out = tmp_path / "run"
    run(Recipe.model_validate(fields), str(out))
    before = {job: commits(out, job) for job in ("fetch", "extract", "refine", "select")}
    changed = fields | {"quality": {"preset": "gopher", "thresholds": {"gopher_short_doc": 3}}}
    report = run(Recipe.model_validate(changed), str(out))
    for job in ("fetch", "extract", "refine"):
        assert commits(out, job) == before[job], job
        assert report.jobs[job]["done"] == 0
    assert commits(out, "select") != before["select"]
    again = run(Recipe.model_validate(changed), str(out))
    assert all(job["done"] == 0 for job in again.jobs.values()), "nothing is left to do"


def test_from_runs_a_job_and_all_after_it(finished: Finished, tmp_path: Path) -> None:
    fields = small_corpus(tmp_path / "corpus")
    out = tmp_path / "run"
    run(Recipe.model_validate(fields), str(out))
    report = run(Recipe.model_validate(fields), str(out), from_job="select")
    assert [name for name, job in report.jobs.items() if job["done"]] == [
        "select", "dedup", "tokenizer", "shard", "close", "manifest",
    ]  # fmt: skip


def test_a_unit_that_left_the_plan_is_removed(tmp_path: Path) -> None:
    fields = small_corpus(tmp_path / "corpus")
    out = tmp_path / "run"
    run(Recipe.model_validate(fields), str(out))
    (tmp_path / "corpus/warc/part-2.warc.gz").unlink()
    report = run(Recipe.model_validate(fields), str(out))
    assert report.jobs["extract"]["done"] == 0, "the other units stay as they are"
    for folder in ("documents", "refined", "ledger", "duplicates", "commits/extract"):
        assert not [path for path in (out / folder).iterdir() if "part-2" in path.name], folder


@pytest.mark.parametrize("from_job", ["extract", "select", "close"])
def test_a_changed_plan_with_from_leaves_nothing_behind(tmp_path: Path, from_job: str) -> None:
    fields = small_corpus(tmp_path / "corpus")
    fewer = fields | {"sources": fields["sources"][:1]}
    run(Recipe.model_validate(fields), str(tmp_path / "run"))
    run(Recipe.model_validate(fewer), str(tmp_path / "run"), from_job=from_job)
    run(Recipe.model_validate(fewer), str(tmp_path / "fresh"))
    assert contents(str(tmp_path / "run")) == contents(str(tmp_path / "fresh"))
    for folder in ("documents", "signatures", "ledger", "clusters", "timings/extract"):
        assert all(path.name.startswith("crawl-") for path in (tmp_path / "run" / folder).iterdir()), folder


@pytest.mark.parametrize("name", ["dataset/manifest.json", "dataset/data", "documents", "tokenizer", "ledger"])
def test_what_was_removed_by_hand_is_made_again(tmp_path: Path, name: str) -> None:
    fields = small_corpus(tmp_path / "corpus")
    run(Recipe.model_validate(fields), str(tmp_path / "run"))
    before = contents(str(tmp_path / "run"))
    path = tmp_path / "run" / name
    (next(path.iterdir()) if path.is_dir() else path).unlink()
    run(Recipe.model_validate(fields), str(tmp_path / "run"))
    assert contents(str(tmp_path / "run")) == before


# Damage


def test_what_was_readable_before_the_damage_is_kept(tmp_path: Path) -> None:
    english = prose("en")
    records = [response(f"http://a.example/{i}", page(f"P{i}", english[i * 3 : i * 3 + 3])) for i in range(6)]
    offsets = write_warc(tmp_path / "cut.warc.gz", records)
    whole = (tmp_path / "cut.warc.gz").read_bytes()
    (tmp_path / "cut.warc.gz").write_bytes(whole[: offsets[4] + 40])
    write_warc(tmp_path / "fine.warc.gz", records[5:])
    (tmp_path / "garbage.warc.gz").write_bytes(b"\x1f\x8b garbage that no reader knows" * 20)
    source = {"kind": "warc", "name": "crawl", "paths": [str(tmp_path / "*.warc.gz")]}
    recipe = Recipe.model_validate({"sources": [source], "tokenizer": {"train": {"vocab_size": 512}}})
    report = run(recipe, str(tmp_path / "run"))
    assert report.exit_code == 3
    damaged = [row for row in table(tmp_path / "run", "ledger").to_pylist() if row["verdict"] == "damaged"]
    assert sorted((row["file_path"], row["offset"]) for row in damaged) == [
        ("cut.warc.gz", offsets[4]),
        ("garbage.warc.gz", 0),
    ]
    assert report.books["kept"] == 5


PUBLISHED_BY = {
    "extract": ("documents", "rejects"),
    "refine": ("refined", "signatures"),
    "select": ("verdicts",),
    "dedup": ("duplicates", "clusters"),
    "shard": ("dataset/data",),
    "close": ("ledger",),
}
GOLDEN = {
    ("extract", "[3, 2, 2, 1, 1, 1]"): "19e719605ff423bb9ed5fb14b83bbc65",
    ("refine", "[1, 1, 1, 1, 1]"): "a6618a3d3fd2772f11fe7f0ad0c4d6f3",
    ("select", "[1, 1]"): "4ca41836e993f225d7b18ea62e449feb",
    ("dedup", "1"): "a0d094fe91a5f1e350345eb228c24b3b",
    ("shard", "1"): "ffb2756f2d0756b298b2c29321bfb554",
    ("close", "2"): "f5a9198e5ddd22488426f09f67c03eaf",
}
"""Digest of the rows that a job publishes for the small corpus, by its STAGE_VERSION and those of its stages."""


@pytest.mark.parametrize("job", PUBLISHED_BY)
def test_output_and_version_of_a_job_change_together(finished: Finished, job: str) -> None:
    """Rows, not bytes: what libraries add to files is none of ours. Raise the version, then add the digest."""
    version = importlib.import_module(f"corpusmill.pipeline.jobs.{job}").STAGE_VERSION
    digest = hashlib.sha256()
    for folder in PUBLISHED_BY[job]:
        for name in Files(str(finished.out)).list(folder):
            rows = ds.dataset(finished.out / name, format="parquet").to_table().to_pylist()
            digest.update(f"{name}\n{json.dumps(rows, default=str, ensure_ascii=False)}\n".encode())
    assert GOLDEN.get((job, str(version))) == digest.hexdigest()[:32]
