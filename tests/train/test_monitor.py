import builtins
import io
import json
import math

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from corpusmill.schemas.files import set_hook
from corpusmill.train.evaluation import Evaluation, Score
from corpusmill.train.monitor import LOG, Monitor, read_log


def score(bits_per_byte):
    """One byte whose bits are given, in two tokens."""
    return Score(n_documents=1, n_tokens=2, n_bytes=1, nats=bits_per_byte * math.log(2))


EVALUATION = Evaluation(
    total=score(2.0), languages={"zh": score(2.5), "en": score(1.5)}, sources={"web": score(3.0)}
)  # fmt: skip


def screen(*, terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def monitor(folder, **settings):
    return Monitor(
        folder, **{"steps": 10, "flops_per_token": 6e6, "peak_flops": 1e11, "console": screen(), **settings}
    )  # fmt: skip


def tell(watching, *steps, **changes):
    for step in steps:
        numbers = {
            "loss": 9.0 / step,
            "lr": 0.01,
            "grad_norm": 0.5,
            "tokens": 1000 * step,
            "step_tokens": 1000,
            "seconds": 0.25,
            "data_seconds": 0.05,
        }
        watching.step(step, **{**numbers, **changes})


def said(watching_console):
    return watching_console.file.getvalue()


def steps_of(folder):
    return [record["step"] for record in read_log(folder / LOG)]


def test_a_line_a_step(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1)
        assert (tmp_path / LOG).read_text().endswith("\n")  # there at once, not at the end
        tell(watching, 2)
    assert read_log(tmp_path / LOG)[0] == {
        "step": 1,
        "loss": 9.0,
        "lr": 0.01,
        "grad_norm": 0.5,
        "tokens": 1000,
        "tokens_per_second": 4000.0,
        "data_wait": 0.2,
        "mfu": pytest.approx(0.24),
        "seconds": 0.25,
    }
    assert steps_of(tmp_path) == [1, 2]


def test_evaluation_and_samples_are_told(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1, evaluation=EVALUATION, samples=[("从前", " 有 a\nb")])
    (record,) = read_log(tmp_path / LOG)
    assert record["eval"] == {
        "loss": pytest.approx(math.log(2)),
        "bits_per_byte": pytest.approx(2.0),
        "languages": {"en": pytest.approx(1.5), "zh": pytest.approx(2.5)},
        "sources": {"web": pytest.approx(3.0)},
    }
    assert record["samples"] == [{"prompt": "从前", "text": " 有 a\nb"}]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    """`NaN`, which Python writes, is no JSON."""
    with monitor(tmp_path) as watching:
        tell(watching, 1, loss=math.nan, grad_norm=math.inf, evaluation=Evaluation(languages={"zh": Score()}))

    def refuse(constant):
        raise AssertionError(constant)

    record = json.loads((tmp_path / LOG).read_text(), parse_constant=refuse)
    assert record["loss"] is record["grad_norm"] is record["eval"]["languages"]["zh"] is None


def test_resuming_removes_what_comes_again(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1, 2, 3, 4)
    before = (tmp_path / LOG).read_bytes().splitlines()
    with monitor(tmp_path, done=2) as watching:
        assert steps_of(tmp_path) == [1, 2]
        tell(watching, 3, loss=7.0)
    assert steps_of(tmp_path) == [1, 2, 3]
    assert (tmp_path / LOG).read_bytes().splitlines()[:2] == before[:2]
    assert read_log(tmp_path / LOG)[-1]["loss"] == 7.0


def test_a_line_that_a_killed_process_left_unfinished_is_dropped(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1, 2)
    whole = (tmp_path / LOG).read_bytes()
    last = whole.splitlines()[-1]
    for n in range(1, len(last) + 1):
        (tmp_path / LOG).write_bytes(whole[: -len(last) - 1] + last[:n])
        assert steps_of(tmp_path) == [1]
    with monitor(tmp_path, done=2) as watching:
        tell(watching, 3)
    assert steps_of(tmp_path) == [1, 3]


def test_lines_of_something_else_are_passed_over(tmp_path):
    (tmp_path / LOG).write_bytes(b'\0\0\n[]\n{"loss": 1}\n\xff\n{"step": 1}\n')
    assert read_log(tmp_path / LOG) == [{"step": 1}]


def test_whoever_dies_while_rewriting_the_log_leaves_the_old_one(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1, 2)
    before = (tmp_path / LOG).read_bytes()

    def die(step, name):
        assert (step, name) == ("publish", LOG)
        raise KeyboardInterrupt

    set_hook(die)
    try:
        with pytest.raises(KeyboardInterrupt):
            monitor(tmp_path, done=1)
    finally:
        set_hook(None)
    assert (tmp_path / LOG).read_bytes() == before


def test_tensorboard(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1, 2)
        tell(watching, 3, evaluation=EVALUATION, samples=[("Once", " <b>upon</b>\na time")])
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 9.0), (2, 4.5), (3, 3.0)]
    assert {tag: board.Scalars(tag)[-1].value for tag in board.Tags()["scalars"]} == {
        "train/loss": 3.0,
        "train/learning_rate": pytest.approx(0.01),
        "train/gradient_norm": 0.5,
        "speed/tokens_per_second": 4000.0,
        "speed/mfu": pytest.approx(0.24),
        "speed/data_wait": pytest.approx(0.2),
        "eval/loss": pytest.approx(math.log(2)),
        "eval/bits_per_byte": pytest.approx(2.0),
        "eval/bits_per_byte/en": pytest.approx(1.5),
        "eval/bits_per_byte/zh": pytest.approx(2.5),
    }
    (text,) = board.Tensors("samples/0/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "    Once <b>upon</b>\n    a time"


def test_tensorboard_forgets_the_steps_that_come_again(tmp_path):
    with monitor(tmp_path) as watching:
        tell(watching, 1, 2, 3)
    (first,) = (tmp_path / "tensorboard").iterdir()
    first.rename(first.with_name("events.out.tfevents.1"))  # names tell the order by seconds, and these are the same
    with monitor(tmp_path, done=1) as watching:
        tell(watching, 2, loss=7.0)
    board = EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=True).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 9.0), (2, 7.0)]


def test_without_tensorboard_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    console = screen()
    with monitor(tmp_path, console=console) as watching:
        tell(watching, 1)
    assert said(console).splitlines()[0].endswith("not installed (pip install tensorboard)")
    assert steps_of(tmp_path) == [1]
    assert not (tmp_path / "tensorboard").exists()


def test_other_processes_are_silent(tmp_path):
    console = screen()
    with monitor(tmp_path, is_main=False, console=console) as watching:
        watching.say("something")
        tell(watching, 1, evaluation=EVALUATION)
    assert list(tmp_path.iterdir()) == []
    assert said(console) == ""


def test_quiet_still_logs(tmp_path):
    console = screen()
    with monitor(tmp_path, quiet=True, console=console) as watching:
        watching.say("something")
        tell(watching, 1, 10, evaluation=EVALUATION)
    assert said(console) == ""
    assert steps_of(tmp_path) == [1, 10]


def test_a_job_log_shows_each_tenth_and_the_time_left(tmp_path):
    times = iter(range(0, 1000, 2))
    console = screen()
    with monitor(tmp_path, steps=100, console=console, clock=lambda: float(next(times))) as watching:
        tell(watching, *range(1, 31))
    assert said(console).splitlines() == [
        "step 1/100  loss 9.000  4.0k tokens/s  0:03:18 left",
        "step 10/100  loss 0.900  4.0k tokens/s  0:03:00 left",
        "step 20/100  loss 0.450  4.0k tokens/s  0:02:40 left",
        "step 30/100  loss 0.300  4.0k tokens/s  0:02:20 left",
    ]


def test_a_job_log_shows_life_every_minute(tmp_path):
    times = iter(range(0, 1000, 25))
    console = screen()
    with monitor(tmp_path, steps=10_000, console=console, clock=lambda: float(next(times))) as watching:
        tell(watching, *range(1, 8))
    assert [line.split()[1] for line in said(console).splitlines()] == ["1/10000", "4/10000", "7/10000"]


def test_the_estimate_of_a_resumed_run_counts_its_own_steps(tmp_path):
    times = iter((0.0, 5.0))
    console = screen()
    with monitor(tmp_path, steps=100, done=90, console=console, clock=lambda: next(times)) as watching:
        tell(watching, 91)
    assert said(console).endswith("0:00:45 left\n")


def test_evaluation_and_samples_on_the_screen(tmp_path):
    """What a model writes must not steer the terminal, nor be read as markup."""
    console = screen()
    with monitor(tmp_path, console=console) as watching:
        watching.say("resumed [bold]here[/bold]")
        tell(watching, 1, evaluation=EVALUATION, samples=[("Once", "\x1b[2J upon\na " + "x" * 500)])
    first, _, score_line, sample = said(console).splitlines()
    assert first == "resumed [bold]here[/bold]"
    assert score_line == "step 1: evaluation loss 0.693, 2.000 bits a byte (en 1.500, zh 2.500)"
    assert sample.startswith("  Once →  [2J upon a xxx")
    assert sample.endswith("x…")
    assert len(sample) < 200


def test_a_terminal_has_a_bar(tmp_path):
    console = screen(terminal=True)
    with monitor(tmp_path, console=console) as watching:
        tell(watching, 1, 2, 3)
        watching.say("a checkpoint")
    assert "3/10" in said(console)
    assert "loss 3.000  4.0k tokens/s" in said(console)
    assert "a checkpoint" in said(console)
