"""Dataset folders, against `datasets` itself."""

import csv
import datetime
import gzip
import io
import json
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources.tables.dataset import list_data_files
from corpusmill.schemas.errors import SourceError
from tests.pipeline.sources.rows import Rows, has_key, peak_megabytes, read_ranges, read_rows, reasons, texts

ROWS = [{"text": f'第{i}行, with "quotes"\nand lines', "id": f"n{i}", "url": f"http://例子/{i}"} for i in range(50)]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture(autouse=True)
def quiet_datasets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caches stay in the folders of the tests, and it asks no server."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def read_folder(folder: Path, **settings: Any) -> Rows:
    """The rows of all files of a folder, as a run reads them."""
    rows = []
    for name in list_data_files(str(folder)):
        rows += read_ranges(folder / name, "dataset", 200, file_path=name, **settings)
    return rows


def splits(found: Any) -> list[str]:
    """The texts of all splits, in the order of their names."""
    if isinstance(found, datasets.Dataset):
        return list(found["text"])
    return [text for name in sorted(found) for text in found[name]["text"]]


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# Folders that save_to_disk wrote


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=3)
    rows = read_folder(tmp_path / "saved")
    assert texts(rows) == splits(datasets.load_from_disk(str(tmp_path / "saved"))) == TEXTS
    assert list_data_files(str(tmp_path / "saved")) == [f"data-0000{i}-of-00003.arrow" for i in range(3)]
    assert has_key(rows[20], "data-00001-of-00003.arrow:3")
    assert [row["url"] for row in rows] == [row["url"] for row in ROWS]
    assert has_key(read_folder(tmp_path / "saved", columns={"id": "id"})[20], "n20")


def test_what_save_to_disk_wrote_of_several_splits(tmp_path: Path) -> None:
    whole = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS[:40]), "test": datasets.Dataset.from_list(ROWS[40:])}
    )
    whole["train"] = whole["train"].shuffle(seed=1).filter(lambda row: row["id"] != "n7")
    whole.save_to_disk(tmp_path / "saved")
    assert texts(read_folder(tmp_path / "saved")) == splits(datasets.load_from_disk(str(tmp_path / "saved")))
    assert list_data_files(str(tmp_path / "saved")) == [
        "test/data-00000-of-00001.arrow",
        "train/data-00000-of-00001.arrow",
    ]


def test_caches_beside_the_data_are_no_data(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    loaded.map(lambda row: {"text": "changed"})
    assert len(list((tmp_path / "saved").glob("*.arrow"))) == 2
    assert texts(read_folder(tmp_path / "saved")) == TEXTS


@pytest.mark.parametrize("state", ["{", "[1]", "{}", '{"_data_files": [{"name": "x"}]}', "[" * 100_000])
def test_a_state_that_cannot_be_read(tmp_path: Path, state: str) -> None:
    write(tmp_path / "state.json", state)
    with pytest.raises(SourceError, match="state.json does not list data files as save_to_disk does"):
        list_data_files(str(tmp_path))


@pytest.mark.parametrize("name", ["gone.arrow", "../../etc/passwd", "/etc/passwd"])
def test_a_state_names_files_that_are_there(tmp_path: Path, name: str) -> None:
    write(tmp_path / "state.json", json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(SourceError, match=f"names {name}, which is not there"):
        list_data_files(str(tmp_path))


# Folders that load_dataset reads


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=7)
    return buffer.getvalue()


def arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    return buffer.getvalue()


def separated(rows: list[dict[str, Any]], delimiter: str = ",", end: str = "\r\n") -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


FORMATS: dict[str, Any] = {
    "parquet": parquet,
    "arrow": arrow,
    "jsonl": jsonl,
    "json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=1).encode(),
    "jsonl.gz": lambda rows: gzip.compress(jsonl(rows)),
    "jsonl.zst": lambda rows: zstandard.compress(jsonl(rows)),
    "csv": separated,
    "csv.gz": lambda rows: gzip.compress(separated(rows)),
    "tsv": lambda rows: separated(rows, "\t", "\n"),
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.{}", "{}/part.{}", "{}.{}"])
def test_folders_that_load_dataset_reads(tmp_path: Path, suffix: str, layout: str) -> None:
    for split, part in {"train": ROWS[:30], "test": ROWS[30:]}.items():
        write(tmp_path / layout.format(split, suffix), FORMATS[suffix](part))
    write(tmp_path / "README.md", "# A dataset")
    write(tmp_path / ".git" / f"hidden.{suffix}", FORMATS[suffix](ROWS))
    write(tmp_path / "__pycache__" / f"hidden.{suffix}", FORMATS[suffix](ROWS))
    write(tmp_path / "dataset_info.json", "{}")
    rows = read_folder(tmp_path, columns={"id": "id"})
    assert texts(rows) == splits(datasets.load_dataset(str(tmp_path))) == TEXTS[30:] + TEXTS[:30]
    assert all(has_key(row, entry["id"]) for row, entry in zip(rows, ROWS[30:] + ROWS[:30], strict=True))
    assert [row["url"] for row in rows] == [row["url"] for row in ROWS[30:] + ROWS[:30]]


def test_text_files_hold_a_row_a_line(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "first\n第二\n\nlast")
    assert texts(read_folder(tmp_path)) == ["first", "第二", "last"]
    assert splits(datasets.load_dataset(str(tmp_path))) == ["first", "第二", "", "last"]


def test_the_format_is_that_of_most_files(tmp_path: Path) -> None:
    write(tmp_path / "labels.json", json.dumps([{"label": "x"}]))
    for name in ("a.parquet", "b.parquet"):
        write(tmp_path / name, parquet(ROWS))
    assert list_data_files(str(tmp_path)) == ["a.parquet", "b.parquet"]
    write(tmp_path / "more.json", "[]")
    assert list_data_files(str(tmp_path)) == ["a.parquet", "b.parquet"]  # a draw
    write(tmp_path / "most.json", "[]")
    assert list_data_files(str(tmp_path)) == ["labels.json", "more.json", "most.json"]


def test_a_folder_without_data_says_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "photo.png", b"")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            SourceError, match=r"holds no data files: a dataset has files named .parquet, .arrow, .jsonl"
        ):
            list_data_files(str(folder))
    with pytest.raises(SourceError, match="files of a dataset are named .parquet"):
        read_rows(tmp_path / "photo.png", "dataset")


def test_object_stores(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/sets/one/train/a.parquet", parquet(ROWS[:30]))
    store.pipe("/sets/one/train/b.parquet", parquet(ROWS[30:]))
    for folder in ("memory://sets/one", "memory://sets/one/"):
        assert list_data_files(folder) == ["train/a.parquet", "train/b.parquet"]
    with pytest.raises(SourceError, match="holds no data files"):
        list_data_files("memory://sets/two")


# Arrow


def test_an_arrow_file_is_a_stream_too(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=20)
    rows = read_rows(tmp_path / "a.arrow", "dataset")
    assert texts(rows) == TEXTS
    data = (tmp_path / "a.arrow").read_bytes()
    for row in rows:
        assert row["content"] in data[row["offset"] :][: row["length"]]
    assert [row["record_index"] for row in rows] == [i % 20 for i in range(50)]


def test_a_stream_that_was_cut_keeps_what_came_before(tmp_path: Path) -> None:
    whole = arrow(ROWS)
    rows = read_rows(write(tmp_path / "a.arrow", whole), "dataset")
    ends = sorted({row["offset"] + row["length"] for row in rows})
    for cut in range(0, len(whole), 61):
        *found, last = read_rows(write(tmp_path / "a.arrow", whole[:cut]), "dataset") or [None]
        if cut < rows[0]["offset"]:
            assert last["reason"] == "damaged_header"
        elif cut in (rows[0]["offset"], *ends):
            assert found == rows[: 7 * ends.index(cut)]
        else:
            n_whole = sum(end <= cut for end in ends)
            assert found == rows[: 7 * n_whole]
            if n_whole < len(ends):
                start = ([rows[0]["offset"], *ends])[n_whole]
                assert (last["reason"], last["offset"], last["length"]) == ("damaged_end", start, cut - start)


def test_a_damaged_batch_costs_only_itself(tmp_path: Path) -> None:
    whole = bytearray(arrow(ROWS))
    rows = read_rows(write(tmp_path / "a.arrow", bytes(whole)), "dataset")
    start = whole.index(TEXTS[14].encode()) - 32  # the offsets of the third batch
    whole[start : start + 32] = b"\xff" * 32
    found = read_rows(write(tmp_path / "a.arrow", bytes(whole)), "dataset")
    assert texts(found) == [*TEXTS[:14], None, *TEXTS[21:]]
    assert (found[14]["reason"], found[14]["offset"], found[14]["length"]) == (
        "damaged_row",
        rows[14]["offset"],
        rows[14]["length"],
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_mutated_stream_ends_nothing(scratch: Path, data: st.DataObject) -> None:
    day = datetime.datetime(2026, 11, 24)
    content = bytearray(arrow([row | {"date": day} for row in ROWS[:20]]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = read_rows(write(scratch / "a.arrow", bytes(content)), "dataset")
    except SourceError:
        return  # the name or type of a column was hit
    assert len(rows) >= 1


# CSV


CSV = "text,url\n"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ('a,u\n"b ""quoted"", with\nlines",v\n\nc,w', ["a", 'b "quoted", with\nlines', "c"]),
        ("a,u\r\nb,v\r\n", ["a", "b"]),
        ("a,u\nb\nc,w,x\nd,y\n", ["a", "damaged_row", "damaged_row", "d"]),
        ('a,u\n"b,v\nc,w\nd,x\n', ["a", "damaged_row", "c", "d"]),
        ('a,u\n"b,v\nc,w\n"d",x\n"e",y\n', ["a", "damaged_row", "c", "d", "e"]),
        ('a,u\n"b"x,v\nc,w\n', ["a", "damaged_row", "c"]),
        ('5" disk,u\nb,v', ['5" disk', "b"]),
        (",u\n   ,v\nc,", ["no_text", "no_text", "c"]),
        ("a\0b,u\nc,v", ["a\0b", "c"]),
    ],
)
def test_rows_of_csv(tmp_path: Path, lines: str, found: list[str]) -> None:
    for start in ("", "\ufeff"):
        path = write(tmp_path / "a.csv", start + CSV + lines)
        rows = read_rows(path, "dataset")
        assert [row["reason"] or row["content"].decode() for row in rows] == found
        data = path.read_bytes()
        for row in rows:
            (first, *_) = csv.reader(io.StringIO(data[row["offset"] :][: row["length"]].decode(), newline=""))
            assert row["content"] in (None, first[0].encode())


def test_bytes_that_are_not_utf8_cost_their_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", CSV.encode() + b"a,u\n\xb0\xd8\xc1\xd6,v\nc,w\n")
    assert reasons(read_rows(path, "dataset")) == [None, "damaged_row", None]


def test_limits_hold_for_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", CSV + "a,u\n" + "b" * 200 + ",v\n" + 'c,w\n"' + "d\n" * 200 + '",x\n')
    found = reasons(read_rows(path, "dataset", max_bytes=100))
    assert found[:4] == [None, "too_large", None, "damaged_row"]
    assert set(found[4:]) == {"damaged_row"}  # its lines, each alone, are no rows
    assert read_rows(path, "dataset")[-1]["content"] == b"d\n" * 200
    assert (
        len(read_rows(write(tmp_path / "b.csv", CSV + "x" * 1_000_000 + ",u\n"), "dataset")[0]["content"]) == 1_000_000
    )


def test_a_csv_file_without_a_header(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no column 'text'; its columns are a .string., b .string."):
        read_rows(write(tmp_path / "a.csv", "a,b\n1,2\n"), "dataset")
    for data in ("", '"text,url\n'):
        assert reasons(read_rows(write(tmp_path / "a.csv", data), "dataset")) == ["damaged_header"]


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\r")), st.text('ab,"\n\t')), max_size=8
    ),
    delimiter=st.sampled_from([",", "\t"]),
)
def test_rows_are_those_that_csv_wrote(scratch: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    data = separated([{"text": "header?", "url": "u"}, *({"text": text, "url": url} for text, url in rows)], delimiter)
    found = read_rows(write(scratch / ("a.csv" if delimiter == "," else "a.tsv"), data), "dataset")[1:]
    assert texts(found) == [text if text.strip() else None for text, _ in rows]
    assert [row["url"] for row in found] == [url for _, url in rows]


def test_unclosed_quotes_take_neither_time_nor_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", CSV + 'a,"b\nc,d\n' * 100_000)
    assert peak_megabytes(path, "dataset", max_bytes=1 << 20) < 60
