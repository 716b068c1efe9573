"""How kernels are compiled, and that an image holds them compiled."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from corpusmill.pipeline.compiled import compiled

ROOT = Path(__file__).parents[2]


def test_without_a_folder_to_write_to_each_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError

    def double(x: int) -> int:
        return 2 * x

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # by which numba tries folders
    assert compiled(double)(21) == 42


@pytest.mark.slow
def test_the_small_run_of_an_image_compiles_all_kernels_that_a_run_calls(tmp_path: Path) -> None:
    dockerfile = (ROOT / "docker/pipeline.Dockerfile").read_text()
    (name,) = re.findall(r"^ARG NUMBA_CPU=(.+)$", dockerfile, re.MULTILINE)
    (command,) = re.findall(r'^RUN (cd "\$\(mktemp -d\)" (?:.*\\\n)*.*)$', dockerfile, re.MULTILINE)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": "",
    }
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = {path.name.partition("-")[0] for path in tmp_path.rglob("*.nbi")}
    files = [path for path in (ROOT / "pipeline").rglob("*.py") if "@compiled" in path.read_text()]
    written = {
        f"{path.stem}.{name}" for path in files for name in re.findall(r"@compiled\ndef (\w+)", path.read_text())
    }
    assert written - code == {"minhash._list_shingles"}, "is called by tests and benchmarks"
    assert len(code) > 10
