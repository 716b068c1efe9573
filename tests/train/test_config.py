"""A training configuration: what it takes, and what it says of what it does not take."""

from pathlib import Path

import pytest

from corpusmill.schemas.errors import UsageError
from corpusmill.train.config import DatasetChoice, TrainConfig, integer_weights, load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/train").glob("*.yaml")), ids=lambda path: path.name)
def test_the_ready_ones_are_right(path: Path) -> None:
    assert load_config(path, ["data.datasets=[somewhere]"]).data.datasets


def test_overrides_win_over_the_file_and_the_file_over_the_base(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("optim: {steps: 7, batch: 3}\nmodel: {preset: nano}\ncompile: off\n")
    config = load_config(file, ["optim.batch=4", "model.dim=64"], {"optim": {"steps": 5, "lr": 0.5}, "seed": 9})
    assert (config.optim.steps, config.optim.batch, config.optim.lr, config.seed) == (7, 4, 0.5, 9)
    assert (config.model.preset, config.model.dim, config.compile) == ("nano", 64, "off")


def test_paths_start_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "config.yaml"
    file.write_text("data: {datasets: [a/dataset, {path: b, weight: 2}], cache: cache}\nmodel: {path: run}\n")
    config = load_config(file)
    assert [choice.path for choice in config.data.datasets] == [str(tmp_path / "a/dataset"), str(tmp_path / "b")]
    assert config.model.path == str(tmp_path / "run")
    (choice,) = load_config(file, ["data.datasets=[c:0.5]"]).data.datasets
    assert choice == DatasetChoice(path=str(tmp_path / "here/c"), weight="0.5")
    (choice,) = load_config(file, ["data.datasets=['gs://bucket/c:3']"]).data.datasets
    assert choice == DatasetChoice(path="gs://bucket/c", weight="3")
    (choice,) = load_config(file, ["data.datasets=['http://127.0.0.1:8765/']"]).data.datasets
    assert choice == DatasetChoice(path="http://127.0.0.1:8765"), "a port, not a weight"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.stepz=3", r"optim.stepz: there is no such field; did you mean 'steps'\?"),
        ("model.preset=nanoo", r"model.preset: 'nanoo': there is no such preset; did you mean 'nano'\?"),
        ("model=nano", r"model: 'nano': write model.preset=nano"),
        ("optim.lr=-1", "optim.lr: -1: Input should be greater than 0"),
        ("optim.name=adam", "optim.name: 'adam': Input should be 'muon', 'adamw' or 'sgd'"),
        ("data.datasets=[{path: a, weight: -2}]", "data.datasets.0.weight"),
        ("optim", "expected key=value, such as --set optim.steps=2000"),
    ],
)
def test_what_is_wrong_is_named_with_the_fix(override: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config(None, [override])


def test_a_model_folder_brings_its_own_sizes() -> None:
    with pytest.raises(UsageError, match="path brings its own sizes: remove dim"):
        load_config(None, ["model.path=run", "model.dim=64"])


def test_a_missing_file_says_where_ready_ones_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no training configuration at .*recipes/train/"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("weights", "n_tokens", "expected"),
    [
        ([None, None], [600, 900], (2, 3)),
        (["0.7", "0.2", "0.1"], [1, 1, 1], (7, 2, 1)),
        (["3", "1.5"], [1, 1], (2, 1)),
        (["1", "0"], [1, 1], (1, 0)),
        ([None], [77], (1,)),
    ],
)
def test_weights_become_integers_without_rounding(
    weights: list[str | None], n_tokens: list[int], expected: tuple[int, ...]
) -> None:
    choices = [DatasetChoice(path=f"d{i}", weight=weight) for i, weight in enumerate(weights)]
    assert integer_weights(choices, n_tokens) == expected


def test_weights_for_some_only_or_for_none_are_refused() -> None:
    some = [DatasetChoice(path="a", weight="1"), DatasetChoice(path="b")]
    with pytest.raises(UsageError, match="--data b has no weight"):
        integer_weights(some, [1, 1])
    with pytest.raises(UsageError, match="all datasets are 0"):
        integer_weights([DatasetChoice(path="a", weight="0")], [1])


def test_the_configuration_survives_json() -> None:
    config = load_config(None, ["data.datasets=[a:0.25]", "optim.betas=[0.8, 0.9]"])
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
