"""Sources to files to units, and what a wrong path tells a person."""

from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest

from corpusmill.pipeline import plan, sources
from corpusmill.pipeline.download.remote import RemoteFile
from corpusmill.pipeline.plan import SourceFile, Unit, list_units
from corpusmill.schemas.errors import RecipeError, SourceError
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.recipe_file import load_recipe
from tests.corpus import small_recipe


def recipe(*paths: str, kind: str = "jsonl", **more: Any) -> Recipe:
    return Recipe.model_validate({"sources": [{"kind": kind, "name": "s", "paths": list(paths), **more}]})


def nothing_to_resolve(source: object) -> list[RemoteFile]:
    raise AssertionError(source)


def list_files(recipe: Recipe) -> list[SourceFile]:
    return plan.list_files(recipe, nothing_to_resolve)


def units(recipe: Recipe) -> list[Unit]:
    found = []
    for file in list_files(recipe):
        ranges = sources.ranges(
            file.kind,
            file.location,
            index=sources.index_of(file.kind, file.location),
            n_bytes=file.n_bytes or 0,
            target_bytes=recipe.unit_bytes,
        )
        found += list_units(file, file.location, ranges)
    return found


def test_a_plan_is_the_same_every_time_and_covers_every_byte(tmp_path: Path) -> None:
    made = small_recipe(tmp_path)
    found = units(made)
    assert found == units(made)
    assert len({unit.name for unit in found}) == len(found)
    assert sum(unit.n_bytes for unit in found) == sum(file.n_bytes or 0 for file in list_files(made))
    assert [unit.piece.source for unit in found] == sorted(
        (unit.piece.source for unit in found), key=["crawl", "enwiki-20261101", "notes"].index
    )
    assert len([unit for unit in found if unit.piece.kind == "wikipedia"]) > 1, "a dump is cut at its streams"


def test_names_do_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    here, there = small_recipe(tmp_path / "here"), small_recipe(tmp_path / "there")
    assert [unit.name for unit in units(here)] == [unit.name for unit in units(there)]


def test_the_root_is_what_comes_before_the_first_wildcard(tmp_path: Path) -> None:
    for name in ("a/x.jsonl", "b/x.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}\n")
    assert [file.file_path for file in list_files(recipe(f"{tmp_path}/*/x.jsonl"))] == ["a/x.jsonl", "b/x.jsonl"]
    assert [file.file_path for file in list_files(recipe(f"{tmp_path}/a/x.jsonl"))] == ["x.jsonl"]
    two = (f"{tmp_path}/a/x.jsonl", f"{tmp_path}/b/x.jsonl")
    with pytest.raises(RecipeError, match=r"are both called 'x.jsonl' .* set `root:`"):
        list_files(recipe(*two))
    assert len(list_files(recipe(*two, root=str(tmp_path)))) == 2
    with pytest.raises(RecipeError, match="does not lie below root"):
        list_files(recipe(two[0], root=f"{tmp_path}/b"))


def test_a_path_that_matches_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sources.0.paths.0: .*/nothing\*' matches no file"):
        list_files(recipe(f"{tmp_path}/nothing*"))


def test_names_with_brackets_are_names_and_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "br[1]"
    folder.mkdir()
    for name in ("x.jsonl", "y[2].jsonl"):
        (folder / name).write_text("{}\n")
    (folder / "r.yaml").write_text("sources: [{kind: jsonl, name: s, paths: [x.jsonl]}]")
    assert [file.file_path for file in list_files(load_recipe(folder / "r.yaml"))] == ["x.jsonl"]
    assert [file.file_path for file in list_files(recipe(f"{folder}/y[2].jsonl"))] == ["y[2].jsonl"]
    assert len(list_files(load_recipe(folder / "r.yaml", [f"sources.0.paths=['{tmp_path}/br[[]1]/*.jsonl']"]))) == 2
    with pytest.raises(RecipeError, match="is a folder: write a glob"):
        list_files(recipe(str(tmp_path)))


def test_a_url_is_a_file_to_download() -> None:
    [file] = list_files(recipe("https://dumps.example/x/y.jsonl?v=2"))
    assert file.remote is not None and file.remote.urls == ("https://dumps.example/x/y.jsonl?v=2",)
    assert (file.file_path, file.raw_name) == ("y.jsonl", "raw/s/y.jsonl"), "a query may be a signature"
    for path in ("https://dumps.example/x/", "https://dumps.example/**/x.jsonl"):
        with pytest.raises(RecipeError, match="files and globs of one folder can be read"):
            list_files(recipe(path))
    name = "zhwiki-20261101-pages-articles-multistream"
    [dump] = list_files(recipe(f"https://dumps.example/x/{name}.xml.bz2", kind="wikipedia"))
    assert dump.remote is not None and dump.remote.index is not None
    assert dump.remote.index.urls == (f"https://dumps.example/x/{name}-index.txt.bz2",)


def test_what_is_read_in_place_is_a_file_of_any_store(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/plan/a/x.jsonl", b"{}\n")
    [file] = list_files(recipe("memory://plan/*/x.jsonl"))
    assert (file.remote, file.file_path, file.location, file.n_bytes) == (
        None,
        "a/x.jsonl",
        "memory://plan/a/x.jsonl",
        3,
    )
    (tmp_path / "x.jsonl").write_text("{}\n")
    assert list_files(recipe(f"file://{tmp_path}/*.jsonl")) == list_files(recipe(f"{tmp_path}/*.jsonl"))


def test_a_scheme_that_nothing_opens_is_named() -> None:
    with pytest.raises(
        RecipeError, match=r"'gopher://a/b': Protocol not known: gopher; local paths, http\(s\), s3, gs"
    ):
        list_files(recipe("gopher://a/b"))
    with pytest.raises(SourceError, match=r"ftp://127.0.0.1:1/b cannot be listed: ConnectionRefusedError"):
        list_files(recipe("ftp://127.0.0.1:1/b"))


def test_names_that_leave_the_root_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"sources.0.paths.0: .* leaves its folder by '..'"):
        list_files(recipe("https://dumps.example/x/../../y.jsonl", root="https://dumps.example/x"))


# Small files


def test_small_files_share_units_and_their_names_do_not_depend_on_it(tmp_path: Path) -> None:
    for name in ("a/1.html", "a/2.htm", "b/3.xhtml", "b/notes.md", "b/4.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 10)
    for target, expected in (
        (25, [["a/1.html", "a/2.htm"], ["b/3.xhtml"]]),
        (1000, [["a/1.html", "a/2.htm", "b/3.xhtml"]]),
    ):
        made = recipe(str(tmp_path), kind="html").model_copy(update={"unit_bytes": target})
        files = list_files(made)
        assert sorted([name for name, _ in file.members] for file in files if file.members) == sorted(
            expected if target == 1000 else [["a/1.html", "a/2.htm"], ["b/3.xhtml"]]
        )
        assert [file.file_path for file in files if not file.members] == ["b/4.zip"]
        assert {file.location for file in files if file.members} == {str(tmp_path)}
        assert len({file.name for file in files}) == len(files)


def test_a_text_is_a_unit_by_itself_where_each_line_is_a_document(tmp_path: Path) -> None:
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text("x\n")
    assert len(list_files(recipe(f"{tmp_path}/*.txt", kind="text"))) == 1
    assert len(list_files(recipe(f"{tmp_path}/*.txt", kind="text", each="line"))) == 2


def test_a_saved_dataset_is_its_data_files(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": ["a", "b"]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "saved"))
    [test, train] = list_files(recipe(str(tmp_path / "saved"), kind="dataset"))
    assert test.file_path.startswith("test/") and train.file_path.startswith("train/")
    [test, train] = list_files(recipe(f"{tmp_path}/*", kind="dataset"))
    assert test.file_path.startswith("saved/test/")


def test_the_index_of_a_dump_is_no_input(tmp_path: Path) -> None:
    for name in (
        "xwiki-20261101-pages-articles-multistream.xml.bz2",
        "xwiki-20261101-pages-articles-multistream-index.txt.bz2",
    ):
        (tmp_path / name).write_bytes(b"")
    assert len(list_files(recipe(f"{tmp_path}/*.bz2", kind="wikipedia"))) == 1
