"""The commands of the training stage, as a user types them."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from corpusmill.cli.main import main
from corpusmill.train import generate, load_model
from tests.train.corpus import Document, byte_tokenizer, small_dataset, write_dataset

SIZES = [
    "--set",
    "model.preset=nano",
    "--set",
    "model.dim=32",
    "--set",
    "model.ffn_dim=48",
    "--set",
    "model.n_layers=2",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a run of four steps on it."""
    folder = tmp_path_factory.mktemp("train")
    small_dataset(folder / "dataset")
    assert main([*command(folder), "--out", str(folder / "run")]) == 0
    return folder


def command(folder: Path, *, data: str = "dataset") -> list[str]:
    arguments = ["--data", str(folder / data), *SIZES, "--set", "optim.steps=4", "--set", "optim.batch=4", "--quiet"]
    return ["train", *arguments, "--set", f"data.cache={folder / 'cache'}", "--device", "cpu", "--threads", "1"]


def test_a_run_ends_with_its_scores_and_where_the_model_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(folder), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "bits/byte" in said
    assert f"model: {tmp_path / 'run'}/step-4/model" in said
    card = (tmp_path / "run/step-4/model/README.md").read_text()
    assert "4 of 4 steps" in card
    assert "| zh-Hans |" in card
    assert json.loads((folder / "dataset/manifest.json").read_bytes())["fingerprint"] in card


def test_a_run_that_is_there_is_not_begun_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command(folder), "--out", str(folder / "run")]) == 2
    assert "has a checkpoint of step 4: go on with --resume" in capsys.readouterr().err
    assert main([*command(folder), "--out", str(folder / "run"), "--resume"]) == 0
    assert "at step 4 already: nothing is left to do" in capsys.readouterr().err


def test_a_longer_run_goes_on_with_what_the_run_knows(folder: Path, tmp_path: Path) -> None:
    assert main([*command(folder), "--out", str(tmp_path / "run"), "--set", "stop_at=2"]) == 0
    # no --data, no sizes: they stand in the checkpoint; stop_at was for that call only
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--quiet", "--set", "optim.steps=6"]) == 0
    assert (tmp_path / "run/step-6/commit.json").is_file()


def test_a_dry_run_shows_sizes_and_time_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command(folder), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("nano", "7b", "this run", "epochs", "the run takes"))
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_model_that_does_not_fit_is_not_timed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(folder / "dataset"), "--set", f"data.cache={folder / 'cache'}", "--device", "cpu"]
    assert main(["train", *arguments, "--set", "model.preset=7b", "--set", "optim.batch=4096", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no steps were timed: this run needs about" in said
    assert "Lower optim.micro_batch (now 4096)" in said


def test_eval_scores_by_language_and_source(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--checkpoint", str(folder / "run"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["languages"].keys() == {"en", "zh-Hans"}
    assert scores["sources"].keys() == {"enprose", "zhprose"}
    assert scores["total"]["n_bytes"] == sum(group["n_bytes"] for group in scores["languages"].values())
    assert 0 < scores["total"]["bits_per_byte"] < 9
    arguments = ["--checkpoint", str(folder / "run/step-4/model"), "--data", str(folder / "dataset")]
    assert main(["eval", *arguments, "--max-documents", "2"]) == 0
    assert "enprose" in capsys.readouterr().out


def test_generate_streams_one_prompt_and_joins_several(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["generate", "--checkpoint", str(folder / "run"), "--max-new-tokens", "12", "--seed", "3"]
    assert main([*base, "The system"]) == 0
    streamed = capsys.readouterr().out
    model = load_model(str(folder / "run"), device="cpu")
    settings = {"max_new_tokens": 12, "seed": 3, "temperature": 0.8, "top_p": 0.95}
    assert streamed == "The system" + generate(model, "The system", **settings)[0] + "\n"  # type: ignore[arg-type]
    assert main([*base, "--json", "The system", "安装"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["prompt"] for item in found] == ["The system", "安装"]


def test_export_and_go_on_from_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--checkpoint", str(folder / "run"), "--to", str(tmp_path / "model")]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert main(["export", "--checkpoint", str(folder / "run"), "--to", str(tmp_path / "model")]) == 2
    assert "there is a model already" in capsys.readouterr().err
    arguments = ["--data", str(folder / "dataset"), "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]
    options = ["--set", f"model.path={tmp_path / 'model'}", "--set", "optim.steps=2"]
    assert main(["train", *arguments, *options]) == 0
    first = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 5.5, "it begins where the other run ended, not at ln 381"


def test_a_model_of_another_tokenizer_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = byte_tokenizer().replace(b"<spare_3>", b"<spare_x>")
    write_dataset(tmp_path / "other", [Document("Other tokens. " * 40)] * 9, tokenizer=tokenizer)
    run = str(folder / "run")
    assert main([*command(tmp_path, data="other"), "--out", str(tmp_path / "run"), "--set", f"model.path={run}"]) == 2
    assert "brings its own sizes" in capsys.readouterr().err
    plain = ["train", "--data", str(tmp_path / "other"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*plain, "--set", f"model.path={run}"]) == 2
    assert "has another tokenizer than the dataset: '<spare_x>' is not in it" in capsys.readouterr().err
    assert main(["eval", "--checkpoint", run, "--data", str(tmp_path / "other"), "--split", "train"]) == 2
    assert "was made with another tokenizer than the model: sha256" in capsys.readouterr().err
    both = ["train", "--data", str(folder / "dataset"), "--data", str(tmp_path / "other"), *SIZES]
    assert main([*both, "--out", str(tmp_path / "run")]) == 2
    assert "was made with another tokenizer than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "DATA"], "--out is missing"),
        (["train", "--out", "x"], "no dataset: give one or more with --data"),
        (["train", "--data", "nowhere", "--out", "x"], "nowhere"),
        (["train", "--data", "DATA:-1", "--out", "x"], "the weight -1 is no share: write it as 3 or 0.5"),
        (["train", "--data", "DATA:1e3", "--out", "x"], "the weight 1e3 is no share"),
        (["train", "--data", "DATA", "--out", __file__], "is a file: name a folder"),
        (["train", "--data", "DATA", "--out", "x", "--set", "optim.eps=.inf"], "optim.eps"),
        (["train", "--data", "DATA", "--out", "x", "--set", "eval.split=vaildation"], "eval.split: 'vaildation'"),
        (["train", "--data", "DATA", "--out", "gs://b/run"], "a run folder is local"),
        (["train", "--data", "DATA", "--out", "x", "--skip-steps", "3"], "add --resume"),
        (["train", "--data", "DATA", "--out", "x", "--set", "optim.stepz=3"], "did you mean 'steps'?"),
        (["train", "--data", "DATA", "--out", "x", "--set", "data.split=test"], "no split 'test'; it has: train"),
        (["train", "--data", "DATA", "--data", "DATA", "--out", "x"], "again: name it once"),
        (["train", "--data", "DATA", "--out", "x", "--set", "optim.warmup=2000"], "optim.warmup"),
        (["train", "--data", "DATA", "--out", "x", "--set", "model.n_heads=5"], "is not a multiple of n_heads 5"),
        (["train", "--data", "DATA", "--out", "x", "--set", "data.sequence_length=9000"], "model.max_length=9000"),
        (["train", "plot", "nowhere"], "nowhere"),
        (["eval", "--checkpoint", "nowhere"], "there is no model at nowhere"),
        (["generate", "--checkpoint", "nowhere", "x"], "there is no model at nowhere"),
        (["generate", "--checkpoint", "RUN", "--top-p", "7", "x"], "top_p"),
        (["export", "--checkpoint", "RUN", "--to", "x", "--dtype", "int4"], "give fp32 or bf16"),
    ],
)
def test_errors_say_what_to_type(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUSMILL_CACHE", str(folder / "cache"))
    places = {"DATA": str(folder / "dataset"), "RUN": str(folder / "run")}
    assert main([re.sub("^(DATA|RUN)", lambda match: places[match[1]], word) for word in arguments]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_plot_draws_runs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "plot", str(folder / "run"), "--out", str(tmp_path / "plot.svg")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_generate_writes_nothing_before_it_accepts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for refused in (["--top-p", "7", "The system"], ["--seed", "-1", "The system"], ["\udcff"]):
        assert main(["generate", "--checkpoint", str(folder / "run"), *refused]) == 2
        assert capsys.readouterr().out == ""


def test_generate_repeats_the_prompt_where_nothing_follows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = ["--temperature", "0", "--max-new-tokens", "1", "--stop"]
    model = load_model(str(folder / "run"), device="cpu")
    (piece,) = generate(model, "The system", max_new_tokens=1, temperature=0)
    assert main(["generate", "--checkpoint", str(folder / "run"), *silent, piece or "x", "The system"]) == 0
    assert capsys.readouterr().out == "The system\n"


def test_generate_reads_and_writes_utf8_whatever_the_locale(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ["generate", "--checkpoint", str(folder / "run"), "--max-new-tokens", "1"]
    for options, expected in (["--json"], ["安装", "", "The é"]), ([], None):
        lines = io.BytesIO("安装\r\n\nThe é".encode())
        written = io.BytesIO()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, encoding="ascii"))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
        assert main([*base, *options]) == 0
        sys.stdout.flush()
        text = written.getvalue().decode("utf-8")
        if expected is None:
            assert text.startswith("安装")
            assert "\r" not in text
        else:
            assert [item["prompt"] for item in json.loads(text)] == expected


def test_generate_names_the_line_that_is_not_utf8(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("fine\ncaf\xe9 au lait\n".encode("latin-1"))))
    assert main(["generate", "--checkpoint", str(folder / "run")]) == 2
    said = capsys.readouterr()
    assert "line 2 of standard input is not UTF-8: invalid continuation byte at byte 4; convert it" in said.err
    assert said.out == ""
