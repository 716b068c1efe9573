"""Sources to files to units, and what a wrong path tells a person."""

from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline import sources
from corpusmill.pipeline.plan import Unit, list_files, list_units
from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.recipe_file import load_recipe
from tests.corpus import small_recipe


def recipe(*paths: str, kind: str = "jsonl", **more: Any) -> Recipe:
    return Recipe.model_validate({"sources": [{"kind": kind, "name": "s", "paths": list(paths), **more}]})


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
    plan = units(made)
    assert plan == units(made)
    assert len({unit.name for unit in plan}) == len(plan)
    assert sum(unit.n_bytes for unit in plan) == sum(file.n_bytes or 0 for file in list_files(made))
    assert [unit.piece.source for unit in plan] == sorted(
        (unit.piece.source for unit in plan), key=["crawl", "enwiki-20261101", "notes"].index
    )
    assert len([unit for unit in plan if unit.piece.kind == "wikipedia"]) > 1, "a dump is cut at its streams"


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


def test_a_url_is_a_file_to_download_and_other_schemes_are_refused() -> None:
    [file] = list_files(recipe("https://dumps.example/x/y.jsonl"))
    assert (file.is_remote, file.file_path, file.raw_name) == (True, "y.jsonl", "raw/s/y.jsonl")
    with pytest.raises(RecipeError, match=r"'ftp://a/b': local paths and http\(s\) URLs can be read"):
        list_files(recipe("ftp://a/b"))


def test_the_index_of_a_dump_is_no_input(tmp_path: Path) -> None:
    for name in (
        "xwiki-20261101-pages-articles-multistream.xml.bz2",
        "xwiki-20261101-pages-articles-multistream-index.txt.bz2",
    ):
        (tmp_path / name).write_bytes(b"")
    assert len(list_files(recipe(f"{tmp_path}/*.bz2", kind="wikipedia"))) == 1
