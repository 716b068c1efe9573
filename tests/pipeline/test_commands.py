"""The commands as a person meets them: help, funnel, statistics, JSON, exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from corpusmill.cli.main import COMMANDS, main
from tests.corpus import small_corpus, write_jsonl


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe file, and the folder of its finished run."""
    folder = tmp_path_factory.mktemp("commands")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(small_corpus(folder / "corpus"), allow_unicode=True))
    assert main(["run", str(recipe), "--out", str(folder / "run")]) == 0
    return recipe, folder / "run"


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_help_shows_every_command_and_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "corpusmill run recipes/demo.yaml --out runs/demo" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_teaches_by_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main([name, "--help"]) == 0
    assert f"\n  corpusmill {name} " in capsys.readouterr().out


def test_a_misspelt_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspekt"]) == 2
    assert "did you mean 'inspect'?" in capsys.readouterr().err


def test_run_ends_with_the_funnel(capsys: pytest.CaptureFixture[str], made: tuple[Path, Path]) -> None:
    recipe, out = made
    assert main(["run", str(recipe), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for word in ("input records", "gopher_short_doc", "duplicate_url", "zh-Hans", "dataset:"):
        assert word in text


def test_the_funnel_leaves_what_the_shards_hold(capsys: pytest.CaptureFixture[str], made: tuple[Path, Path]) -> None:
    described = read(capsys, "inspect", str(made[1]))
    assert described["funnel"][-1]["left"] == described["books"]["kept"]
    assert sum(row["dropped"] for row in described["funnel"]) == described["books"]["dropped"]
    for ends in described["books"]["languages"].values():
        assert sum(ends.values()) > 0


def test_inspect_a_dataset_and_a_shard(capsys: pytest.CaptureFixture[str], made: tuple[Path, Path]) -> None:
    dataset = made[1] / "dataset"
    described = read(capsys, "inspect", str(dataset), "--samples", "3")
    manifest = json.loads((dataset / "manifest.json").read_bytes())
    assert described["totals"]["rows"] == manifest["totals"]["rows"]
    assert {sample["language"] for sample in described["samples"]} == {"en", "zh-Hans"}
    assert described["lengths"]["n_tokens"]["p0"] <= described["lengths"]["n_tokens"]["p50"]
    shard = manifest["shards"][0]
    assert read(capsys, "inspect", str(dataset / shard["name"]))["totals"]["tokens"] == shard["tokens"]
    assert main(["inspect", str(dataset), "--samples", "1"]) == 0
    text = capsys.readouterr().out
    assert "fingerprint" in text
    assert "gopher_short_doc" in text


def test_text_and_addresses_are_never_taken_for_markup(
    capsys: pytest.CaptureFixture[str], made: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "空 间 [b]"
    row = {"text": "[/red] is text, and [b] too.", "url": "http://x.example/[/b]"}
    write_jsonl(folder / "rows.jsonl", [row])
    recipe = folder / "r.yaml"
    recipe.write_text(
        "sources: [{kind: jsonl, name: rows, paths: [rows.jsonl]}]\nquality: {preset: none}\n"
        "tokenizer: {train: {vocab_size: 512}}\n"
    )
    out = tmp_path / "出 [b]"
    assert main(["run", str(recipe), "--out", str(out)]) == 0
    assert f"dataset: {out}/dataset" in capsys.readouterr().out
    assert main(["inspect", str(out / "dataset"), "--samples", "1"]) == 0
    text = capsys.readouterr().out
    assert row["text"] in text
    assert row["url"] in text


def test_a_file_in_the_way_is_one_line(
    capsys: pytest.CaptureFixture[str], made: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", str(made[0]), "--out", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert "Traceback" not in error


def test_status_counts_units(capsys: pytest.CaptureFixture[str], made: tuple[Path, Path]) -> None:
    described = read(capsys, "status", str(made[1]))
    assert described["held_by"] is None
    assert described["jobs"]["extract"]["committed"] == len(read(capsys, "plan", str(made[0]))["units"])
    assert main(["status", str(made[1])]) == 0
    assert "ended" in capsys.readouterr().out


def test_plan_shows_units_and_bytes_and_touches_nothing(
    capsys: pytest.CaptureFixture[str], made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = read(capsys, "plan", str(made[0])), read(capsys, "plan", str(made[0]))
    assert first == second
    assert first["bytes"] == sum(unit["bytes"] for unit in first["units"])
    assert list(tmp_path.iterdir()) == []
    url = "sources=[{kind: jsonl, name: far, paths: ['http://127.0.0.1:9/x.jsonl']}]"
    assert read(capsys, "plan", str(made[0]), "--set", url)["units"][0]["bytes"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "nothing.yaml", "--out", "x"], 2, "no recipe at"),
        (
            ["run", "RECIPE", "--out", "x", "--set", "quality.preset=gofer"],
            2,
            "'gofer' is no quality preset; did you mean gopher?",
        ),
        (
            ["run", "RECIPE", "--out", "x", "--set", "quality.thresholds.gopher_shrt_doc=3"],
            2,
            "did you mean gopher_short_doc",
        ),
        (
            ["run", "RECIPE", "--out", "x", "--set", "dedup.quality=n_wrds"],
            2,
            "dedup.quality: 'n_wrds' is no signal; did you mean 'n_words'?",
        ),
        (
            ["run", "RECIPE", "--out", "x", "--set", "language.model=/none.ftz"],
            2,
            "language.model: language model '/none.ftz' cannot be used",
        ),
        (["run", "RECIPE", "--out", "x", "stray"], 2, "'stray' is not an option"),
        (["run", "RECIPE"], 2, "--out"),
        (["run", "RECIPE", "--out", ""], 2, "--out is empty"),
        (["run", "RECIPE", "--out", "x", "--runner", "NopeRunner"], 2, "--runner 'NopeRunner'"),
        (["plan", "RECIPE", "--set", "unit_bytes=12XB"], 2, "write a number of bytes, or one with a unit of KiB"),
        (["inspect", __file__.replace("test_commands.py", "no.parquet")], 2, "there is no file"),
        (["inspect", "/nowhere"], 2, "holds neither run.json nor manifest.json"),
        (["status", "/nowhere"], 2, "is not a run folder"),
    ],
)
def test_errors_say_what_to_type(
    capfd: pytest.CaptureFixture[str],
    made: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(made[0]) if word == "RECIPE" else word for word in arguments]) == code
    assert message in " ".join(capfd.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [], "nothing was started"
