"""SIGKILL before and after every step of a run, and at random moments of a run with worker processes."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from corpusmill.pipeline.run import run
from corpusmill.schemas import files as layer
from corpusmill.schemas.recipe import Recipe
from tests.corpus import small_corpus
from tests.digest import contents

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("CORPUSMILL_KILL_SEED", str(random.SystemRandom().randrange(10**6))))
MOMENTS = 20


class Counter:
    """Appends each published commit to a file that survives the process; kills the process at a step.

    A record that --from marks as forgotten is no commit: nothing was done for it.
    """

    def __init__(self, out: Path, log: Path, at: int | None) -> None:
        self.out, self.log, self.at, self.steps = out, log, at, 0

    def __call__(self, step: str, name: str) -> None:
        if name == "lease.json":
            return
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1
        if step != "published" or not name.startswith("commits/"):
            return
        if json.loads((self.out / name).read_bytes())["fingerprint"] != "forgotten":
            with self.log.open("a") as handle:
                handle.write(name + "\n")


def run_in_child(fields: dict[str, Any], out: Path, log: Path, at: int | None, from_job: str | None) -> None:
    layer.set_hook(Counter(out, log, at))
    run(Recipe.model_validate(fields), str(out), from_job=from_job)


def start(fields: dict[str, Any], out: Path, at: int | None = None, from_job: str | None = None) -> int | None:
    """Run in a process of its own, forked from one that has imported everything; returns its exit code."""
    log = out.with_suffix(".log")
    child = multiprocessing.get_context("fork").Process(target=run_in_child, args=(fields, out, log, at, from_job))
    child.start()
    child.join()
    return child.exitcode


def commits(out: Path) -> list[str]:
    log = out.with_suffix(".log")
    return log.read_text().split() if log.exists() else []


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    small = small_corpus(tmp_path_factory.mktemp("corpus"))
    return small | {
        "sources": [small["sources"][0] | {"paths": [small["sources"][0]["paths"][0].replace("*", "part-0")]}]
    }


def count_steps(fields: dict[str, Any], out: Path, **options: Any) -> int:
    steps = 0

    def hook(step: str, name: str) -> None:
        nonlocal steps
        steps += name != "lease.json"

    layer.set_hook(hook)
    try:
        run(Recipe.model_validate(fields), str(out), **options)
    finally:
        layer.set_hook(None)
    return steps


SCENARIOS = {
    "a first run": ({}, None),
    "after a changed --set": ({"quality": {"preset": "gopher", "thresholds": {"gopher_short_doc": 20}}}, None),
    "with --from": ({}, "refine"),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sigkill_at_every_step(fields: dict[str, Any], tmp_path: Path, scenario: str) -> None:
    changes, from_job = SCENARIOS[scenario]
    changed = fields | changes
    run(Recipe.model_validate(changed), str(tmp_path / "whole"))
    expected = contents(str(tmp_path / "whole"))

    def prepare(name: str) -> Path:
        out = tmp_path / name
        if scenario != "a first run":
            run(Recipe.model_validate(fields), str(out))
        return out

    for at in range(count_steps(changed, prepare("counted"), from_job=from_job)):
        out = prepare(f"killed-{at}")
        assert start(changed, out, at=at, from_job=from_job) == -signal.SIGKILL
        before = commits(out)
        assert start(changed, out) == 0
        assert contents(str(out)) == expected, f"killed at step {at}"
        assert not set(before) & set(commits(out)[len(before) :]), f"killed at step {at}: done twice"


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    """Of a whole process group: the driver and its two workers; the third start of a unit is not yet its last."""
    print(f"CORPUSMILL_KILL_SEED={SEED}")
    chance = random.Random(SEED)
    fields = small_corpus(tmp_path / "corpus")
    run(Recipe.model_validate(fields), str(tmp_path / "whole"))
    expected = contents(str(tmp_path / "whole"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(fields))
    command = [sys.executable, "-m", "corpusmill.cli.main", "run", str(tmp_path / "recipe.yaml"), "--workers", "2"]
    started = time.time()
    subprocess.run([*command, "--out", str(tmp_path / "timed")], check=True, capture_output=True)
    seconds = time.time() - started
    for moment in range(MOMENTS):
        out = tmp_path / f"run-{moment}"
        for _ in range(2):
            process = subprocess.Popen(
                [*command, "--out", str(out)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.wait(chance.uniform(0.1, 1) * seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert contents(str(out)) == expected, f"moment {moment}, seed {SEED}"
        assert json.loads((out / "run.json").read_bytes())["exit_code"] == 0
        assert not [line for line in done.stderr.splitlines() if "quarantined" in line]
