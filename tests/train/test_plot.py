import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from corpusmill.schemas.errors import UsageError
from corpusmill.train.monitor import LOG
from corpusmill.train.plot import _draw, _labels, _short, _smooth, plot


def write_log(folder, n=40, *, languages=("en", "zh"), loss=3.0, evaluate=True):
    folder.mkdir(parents=True)
    with (folder / LOG).open("w") as file:
        for step in range(1, n + 1):
            record = {
                "step": step,
                "loss": None if step == 5 else loss + 1 / step,
                "lr": 0.01,
                "grad_norm": 0.3,
                "tokens": step * 1000,
                "tokens_per_second": 5000.0,
            }
            if evaluate and step % 10 == 0:
                scores = {name: 1.0 + i for i, name in enumerate(languages)}
                record["eval"] = {"loss": 2.0, "bits_per_byte": 1.5, "languages": scores, "sources": {}}
            file.write(json.dumps(record) + "\n")
    return folder


def read_log_of(folder):
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def texts(svg):
    return [element.text for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_lies_in_the_run_and_is_the_same_each_time(tmp_path):
    run = write_log(tmp_path / "muon")
    target = plot([run])
    assert target == run / "plot.svg"
    shown = texts(target)
    assert {"training loss (nats a token)", "bits per byte", "learning rate", "gradient norm"} <= set(shown)
    assert {"muon", "all", "en", "zh", "tokens"} <= set(shown)
    assert plot([run], tmp_path / "new" / "again.svg").read_bytes() == target.read_bytes()


def test_runs_lie_over_one_another(tmp_path):
    runs = [write_log(tmp_path / "a"), write_log(tmp_path / "b", 20, loss=4.0, languages=("en", "fr"))]
    shown = texts(plot(runs, tmp_path / "both.svg", over="steps"))
    assert {"a", "b", "all", "en", "fr", "zh", "steps"} <= set(shown)


def test_curves_are_those_of_the_log(tmp_path):
    run = write_log(tmp_path / "run")
    figure = _draw({"run": read_log_of(run)}, "tokens")
    loss, bits, rate, *_ = figure.axes
    x, y = loss.lines[0].get_data()
    assert list(x) == [1000 * step for step in range(1, 41)]
    assert math.isnan(y[4])
    assert y[9] == pytest.approx(3.1)
    assert [list(line.get_ydata()) for line in bits.lines] == [[1.5] * 4, [1.0] * 4, [2.0] * 4]
    assert list(bits.lines[0].get_xdata()) == [10_000, 20_000, 30_000, 40_000]
    assert set(rate.lines[0].get_ydata()) == {0.01}


def test_a_language_that_one_run_lacks_is_a_gap(tmp_path):
    logs = {name: read_log_of(write_log(tmp_path / name, languages=ls)) for name, ls in {"a": ("en",), "b": ()}.items()}
    bits = _draw(logs, "steps").axes[1]
    assert np.isnan(bits.lines[3].get_ydata()).all()


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_the_suffix_says_the_format(tmp_path, suffix, magic):
    assert plot([write_log(tmp_path / "run")], tmp_path / f"plot{suffix}").read_bytes().startswith(magic)


def test_one_step_without_evaluation_under_a_name_that_fonts_lack(tmp_path):
    assert {"中文", "no evaluation yet"} <= set(texts(plot([write_log(tmp_path / "中文", 1)])))


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _labels(["a/run", "b/other/"]) == ["run", "other"]
    assert _labels(["a/run", "b/run"]) == ["a/run", "b/run"]


def test_a_long_log_makes_no_large_file(tmp_path):
    run = write_log(tmp_path / "run", 5000, evaluate=False)
    assert plot([run]).stat().st_size < 350_000


def test_a_folder_without_a_log_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is not the folder of a training run: there is no .*empty/log.jsonl"):
        plot([write_log(tmp_path / "run"), tmp_path / "empty"])
    with pytest.raises(UsageError, match="missing is not the folder of a training run"):
        plot([tmp_path / "missing"])


def test_a_log_without_steps_is_named(tmp_path):
    (tmp_path / LOG).write_text('{"step": 1')
    with pytest.raises(UsageError, match=r"there is nothing to plot: .*log.jsonl has no step yet"):
        plot([tmp_path])


def test_formats_that_cannot_be_written_are_refused(tmp_path):
    run = write_log(tmp_path / "run")
    with pytest.raises(UsageError, match=r"--out .*plot.gif: the name must end in .svg, .png, .pdf"):
        plot([run], tmp_path / "plot.gif")
    assert list(run.iterdir()) == [run / LOG]


def test_the_average_of_a_constant_is_the_constant():
    np.testing.assert_allclose(_smooth(np.full(1000, 2.5)), 2.5)


def test_the_average_passes_over_gaps():
    smooth = _smooth(np.array([np.nan, 1.0, np.nan, 1.0]))
    assert math.isnan(smooth[0])
    np.testing.assert_allclose(smooth[1:], 1.0)


def test_the_average_forgets_by_half_lives():
    """One is a fiftieth of the run: of 5,000 values, a step up in the middle is half taken after 100."""
    values = np.repeat([0.0, 1.0], 2500)
    assert _smooth(values)[2599] == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (500, "500"), (2500, "2.5k"), (12e6, "12M"), (2e10, "20B"), (1.5e12, "1.5T")]
)
def test_ticks_are_short(value, shown):
    assert _short(value, 0) == shown
