"""Recipes: what is accepted, and what an error tells a person to do."""

from pathlib import Path

import pytest

from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.generate import SCHEMAS, json_schema
from corpusmill.schemas.recipe import Recipe, language_tag
from corpusmill.schemas.recipe_file import load_recipe

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "sources: [{kind: warc, name: crawl, paths: [a.warc.gz]}]\n"


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_but_the_sources_has_a_default(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SOURCE))
    assert recipe.extract.method == "fast"
    assert recipe.language.keep == "any"
    assert recipe.dedup != "none"
    assert recipe.dedup.minhash != "none"
    assert (recipe.dedup.minhash.bands, recipe.dedup.minhash.rows) == (20, 8)
    assert recipe.tokenizer.train is not None


def test_none_lets_everything_through(tmp_path: Path) -> None:
    text = SOURCE + "quality: {preset: none}\nedits: {lines: none, shared_lines: none}\npii: none\ndedup: none\n"
    recipe = load_recipe(write(tmp_path, text + "tokenizer: {path: t.json}\n"))
    assert recipe.dedup == "none"
    assert recipe.tokenizer.path == str(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("languages: {keep: any}\n", "languages: there is no such field; did you mean 'language'?"),
        (
            "dedup: {minhash: {treshold: 0.8}}\n",
            "dedup.minhash.treshold: there is no such field; did you mean 'threshold'?",
        ),
        (
            "dedup: {minhash: {threshold: 1.5}}\n",
            "dedup.minhash.threshold: 1.5: Input should be less than or equal to 1",
        ),
        ("pii: hash\n", "pii: 'hash': Input should be 'none'"),
        ("language: {keep: [english]}\n", "language.keep: ['english']: 'english' is not a"),
        ("tokenizer: {train: {vocab_size: 8}}\n", "tokenizer.train.vocab_size: 8: Input should be greater than"),
        ("tokenizer: {}\n", "tokenizer: {}: give exactly one of `train: {vocab_size: N}` and `path: tokenizer.json`"),
        ("shards: {splits: {validation: 0.6, test: 0.5}}\n", "leave something for train"),
        ("quality: {preset: none, thresholds: {gopher_short_doc: 10}}\n", "preset is none"),
    ],
)
def test_an_error_names_field_value_and_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(write(tmp_path, SOURCE + text))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 2, "one problem, one line"


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "sources:\n" + "  - {kind: jsonl, name: a, paths: [x.jsonl]}\n" * 2
    with pytest.raises(RecipeError, match="two sources are called 'a'"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("kind: warc, name: a, paths: [x], columns: {text: body}", r"sources.0.columns: there is no such field; known"),
        ("kind: warc, name: a, path: [x]", r"sources.0.path: there is no such field; did you mean 'paths'\?"),
        ("kind: warcs, name: a, paths: [x]", r"sources.0: .*: kind 'warcs' is not known; did you mean 'warc'\?"),
        ("name: a, paths: [x]", r"kind is missing; write one of warc, wet, html, text, jsonl, parquet, dataset, wiki"),
        ("kind: commoncrawl, crawl: C", r"give exactly one of `files: 0-99`, `fraction: 0.01`"),
        ("kind: commoncrawl, crawl: C, files: 9-0", r"files: '9-0' runs backwards; write 0-9"),
        ("kind: commoncrawl, crawl: C, files: first", r"sources.0.files: 'first': String should match pattern"),
        ("kind: commoncrawl, crawl: C, records: x, what: wet", r"records are those of WARC files"),
        ("kind: wikipedia, name: w", r"give exactly one of `paths: \[dump.xml.bz2\]` and `wiki: zhwiki`"),
        ("kind: wikipedia, wiki: zhwiki, date: yesterday", r"sources.0.date: 'yesterday'"),
        ("kind: wikipedia, wiki: zhwiki, base_urls: [dumps.example]", r"sources.0.base_urls.0: 'dumps.example'"),
    ],
)
def test_a_source_that_cannot_work_is_told_what_it_lacks(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, f"sources: [{{{source}}}]"))


def test_sources_that_name_a_crawl_or_a_wiki_have_its_name(tmp_path: Path) -> None:
    text = """sources:
  - {kind: commoncrawl, crawl: CC-MAIN-2026-10, files: 7}
  - {kind: wikipedia, wiki: zhwiki, date: 20261101}
  - {kind: wikipedia, wiki: dewiki, date: 2026-11-01}
  - {kind: wikipedia, wiki: enwiki}
  - {kind: commoncrawl, name: rows, crawl: CC-MAIN-2026-05, records: rows.jsonl}
"""
    sources = load_recipe(write(tmp_path, text)).sources
    assert [source.name for source in sources] == [
        "CC-MAIN-2026-10",
        "zhwiki-20261101",
        "dewiki-20261101",
        "enwiki",
        "rows",
    ]
    assert sources[0].files == "7" and sources[4].records == str(tmp_path / "rows.jsonl")


def test_extends_merges_fields_and_replaces_lists(tmp_path: Path) -> None:
    write(
        tmp_path,
        SOURCE + "language: {keep: [en], min_score: 0.5}\ntokenizer: {train: {vocab_size: 600}}\n",
        "base.yaml",
    )
    child = write(tmp_path, "extends: base.yaml\nlanguage: {keep: [zh]}\ntokenizer: {path: t.json}\n")
    recipe = load_recipe(child)
    assert recipe.language.keep == ["zh"]
    assert recipe.language.min_score == 0.5
    assert recipe.tokenizer.train is None, "the given tokenizer takes the place of the training"
    assert recipe.sources[0].paths == [str(tmp_path / "a.warc.gz")]


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the key 'name' stands twice"):
        load_recipe(write(tmp_path, SOURCE + "name: a\nname: b\n"))


def test_set_changes_one_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, SOURCE)
    recipe = load_recipe(
        path, ["dedup.minhash.threshold=0.8", "sources.0.paths=[x/*.gz]", "language.keep=[eng, zh-TW]"]
    )
    assert recipe.dedup != "none"
    assert recipe.dedup.minhash != "none"
    assert recipe.dedup.minhash.threshold == 0.8
    assert recipe.sources[0].paths == [str(tmp_path / "x/*.gz")]
    assert recipe.language.keep == ["en", "zh-Hant"]
    assert load_recipe(path, ["dedup=none"]).dedup == "none"


@pytest.mark.parametrize("text", ["dedup", "=3", "dedup=", "sources.7.name=x", "dedup=[1"])
def test_a_set_that_is_no_assignment_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(write(tmp_path, SOURCE), [text])


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "sources: [{kind: jsonl, name: a, paths: ['${CORPUS_HOME}/x', '${CORPUS_OTHER:-/else}/y']}]"
    monkeypatch.setenv("CORPUS_HOME", "/home")
    assert load_recipe(write(tmp_path, text)).sources[0].paths == ["/home/x", "/else/y"]
    monkeypatch.delenv("CORPUS_HOME")
    with pytest.raises(RecipeError, match=r"sources.0.paths.0: .* needs the environment variable CORPUS_HOME"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("alias", "tag"),
    [
        ("eng", "en"),
        ("en-US", "en"),
        ("zh", "zh"),
        ("cmn", "zh"),
        ("zho", "zh"),
        ("zh-CN", "zh-Hans"),
        ("zh-TW", "zh-Hant"),
        ("nb", "no"),
    ],
)
def test_language_aliases(alias: str, tag: str) -> None:
    assert language_tag(alias) == tag


def test_zh_keeps_both_scripts_and_a_script_only_itself() -> None:
    keep = Recipe.model_validate(
        {"sources": [{"kind": "warc", "name": "a", "paths": ["x"]}], "language": {"keep": ["zh-Hant", "en"]}}
    ).language
    assert [keep.keeps(tag) for tag in ("zh-Hant", "zh-Hans", "en", "de")] == [True, False, True, False]


def test_the_manifest_s_recipe_names_no_folder(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SOURCE))
    assert str(tmp_path) not in str(recipe.without_paths())


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_json_schemas_are_current(name: str) -> None:
    current = (ROOT / "schemas" / name).read_text(encoding="utf-8")
    assert current == json_schema(SCHEMAS[name]), "run: python -m corpusmill.schemas.generate"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_that_we_ship_is_valid(path: Path) -> None:
    load_recipe(path)
