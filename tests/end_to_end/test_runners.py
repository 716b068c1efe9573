"""The same bytes on every runner and any number of workers; the quick ones here, the others slow."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from apache_beam.runners.portability import local_job_service

from corpusmill.pipeline.run import run
from corpusmill.schemas.recipe import Recipe
from tests.digest import contents
from tests.end_to_end.conftest import Finished


def run_command(recipe: Recipe, out: Path, *options: str) -> dict[str, list[str]]:
    """Run the command in a process of its own; returns the processes that took units, by job."""
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True)))
    command = [sys.executable, "-m", "corpusmill.cli.main", "run", str(path), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    jobs = json.loads((out / "run.json").read_bytes())["jobs"]
    return {name: job["processes"] for name, job in jobs.items()}


def test_two_worker_processes(finished: Finished, tmp_path: Path) -> None:
    processes = run_command(finished.recipe, tmp_path / "run", "--workers", "2")
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
    assert len(processes["extract"]) == 2, "both took units"


def test_dask_with_two_worker_processes(finished: Finished, tmp_path: Path) -> None:
    processes = run_command(finished.recipe, tmp_path / "run", "--runner", "dask", "--workers", "2")
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
    assert len(processes["extract"]) == 2, "both took units"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_other_numbers_of_worker_processes(finished: Finished, tmp_path: Path, workers: int) -> None:
    options = ["--workers", str(workers)]
    if workers == 1:  # one worker process, not the driver itself
        options += ["--", "--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    processes = run_command(finished.recipe, tmp_path / "run", *options)
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
    assert len(processes["extract"]) >= min(workers, 2)
    assert processes["extract"] != processes["fetch"], "not in the driver"


@pytest.mark.slow
def test_a_scheduler_that_is_there_already(finished: Finished, tmp_path: Path) -> None:
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = f"--dask_client_address={cluster.scheduler_address}"
        processes = run_command(finished.recipe, tmp_path / "run", "--runner", "dask", "--", address)
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
    assert len(processes["extract"]) == 2


@pytest.fixture
def job_endpoint(tmp_path: Path) -> Iterator[str]:
    service = local_job_service.LocalJobServicer(str(tmp_path / "staging"))
    port = service.start_grpc_server(0)
    yield f"localhost:{port}"
    service.stop()


@pytest.mark.slow
def test_the_portable_job_service(finished: Finished, tmp_path: Path, job_endpoint: str) -> None:
    options = ["--", f"--job_endpoint={job_endpoint}", "--environment_type=LOOPBACK"]
    run_command(finished.recipe, tmp_path / "run", "--runner", "PortableRunner", *options)
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))


@pytest.mark.slow
def test_an_object_store_in_memory(finished: Finished) -> None:
    out = f"memory://{uuid.uuid4().hex}"
    run(finished.recipe, out)
    assert contents(out) == contents(str(finished.out))


@pytest.mark.slow
def test_the_size_of_batches_does_not_matter(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpusmill.pipeline.sources import record

    monkeypatch.setattr(record, "_MAX_ROWS", 3)
    run(finished.recipe, str(tmp_path / "run"))
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
