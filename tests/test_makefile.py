"""`make setup` installs the PyTorch that was asked for, and says so early when it cannot.

A scratch checkout has a shell script for a Python: it writes down how it was called and plays pip and the indexes. The
Makefile's own check of what was installed runs in the Python of the tests, on the metadata that the script leaves.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CPU = "https://download.pytorch.org/whl/cpu"
CUDA = "https://download.pytorch.org/whl/cu130"

FAKE = """\
#!/bin/sh
echo "$*" >> "$CHECKOUT/calls"
torch="$CHECKOUT/installed/torch-2.13.0.dist-info/METADATA"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg";;
    *--no-deps*)
        case "$*" in *--force-reinstall*) rm -f "$torch";; esac
        if [ -e "$torch" ]; then exit 0; fi  # pip is content with any build of that version
        mkdir -p "$(dirname "$torch")"
        case "$INDEX_IS_DOWN $*" in
            " "*/whl/cpu*) printf 'Name: torch\\nVersion: 2.13.0+cpu\\nRequires-Dist: jinja2\\n' > "$torch";;
            *) printf 'Name: torch\\nVersion: 2.13.0\\nRequires-Dist: nvidia-nccl==2%s\\n' "$MARKER" > "$torch";;
        esac;;
    *importlib*) PYTHONPATH="$CHECKOUT/installed" exec "$REAL_PYTHON" "$@";;
esac
"""


class Checkout:
    """A folder with the Makefile, pyproject.toml and the script, and what the script wrote down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "python").write_text(FAKE)
        (folder / "python").chmod(0o755)

    def setup(self, *variables: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "calls").write_text("")
        base = {"PATH": os.environ["PATH"], "CHECKOUT": str(self.folder), "REAL_PYTHON": sys.executable}
        command = ["make", "setup", "PYTHON=./python", "NEEDED_MB=0", *variables]
        return subprocess.run(command, cwd=self.folder, env=base | environment, capture_output=True, text=True)

    def installs(self) -> list[str]:
        """What pip was told to install, in order."""
        calls = (self.folder / "calls").read_text().splitlines()
        return [call.split("--disable-pip-version-check ")[1] for call in calls if "pip install" in call]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("index", [None, f"{CPU}/"])
def test_cpu_build(checkout: Checkout, index: str | None) -> None:
    variables = [f"TORCH_INDEX={index}"] if index else []
    done = checkout.setup(*variables)
    assert done.returncode == 0, done.stderr
    torch, rest = checkout.installs()
    assert torch == f"--no-deps --timeout 15 --retries 1 --extra-index-url {index or CPU} torch==2.13.0"
    assert rest == "-e .[dev]"
    assert checkout.setup(*variables).returncode == 0
    assert checkout.installs() == [], "what is ready is not set up again"


@pytest.mark.parametrize("index", [CPU, f"{CPU}/"])
def test_cuda_build_instead_of_a_cpu_build_stops_before_its_packages_are_fetched(
    checkout: Checkout, index: str
) -> None:
    done = checkout.setup(f"TORCH_INDEX={index}", INDEX_IS_DOWN="yes")
    assert done.returncode != 0
    assert f"a CUDA build of PyTorch came in, for {index} was not reached" in done.stdout
    assert f"make setup TORCH_INDEX={CUDA}" in done.stdout
    assert len(checkout.installs()) == 1
    assert not (checkout.folder / ".venv/ready").exists()
    shutil.rmtree(checkout.folder / "installed")  # it lay in the environment, which is made anew
    assert checkout.setup(f"TORCH_INDEX={index}").returncode == 0


def test_packages_for_other_systems_make_no_cuda_build(checkout: Checkout) -> None:
    done = checkout.setup(INDEX_IS_DOWN="yes", MARKER='; platform_system == "Another"')
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("index", "option"), [(CUDA, f"--extra-index-url {CUDA} "), ("", "")])
def test_cuda_build_that_was_asked_for(checkout: Checkout, index: str, option: str) -> None:
    """By its index, or as what the registry has: an empty index."""
    done = checkout.setup(f"TORCH_INDEX={index}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.installs() == [f"--no-deps --timeout 15 --retries 1 {option}torch==2.13.0", "-e .[dev]"]
    assert checkout.setup(f"TORCH_INDEX={index}").returncode == 0
    assert checkout.installs() == [], "what is ready is not set up again"


def test_another_index_replaces_the_build(checkout: Checkout) -> None:
    for index in (CPU, CUDA, "", CPU):
        done = checkout.setup(f"TORCH_INDEX={index}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(checkout.installs()) == 2
    assert "--force-reinstall" in checkout.installs()[0]
    assert (checkout.folder / ".venv/ready").read_text() == f"torch==2.13.0 {CPU}\n"


@pytest.mark.parametrize("index", [CPU, CUDA])
def test_after_a_replacement_that_failed_either_build_is_installed_again(checkout: Checkout, index: str) -> None:
    assert checkout.setup(f"TORCH_INDEX={CUDA}").returncode == 0
    assert checkout.setup(INDEX_IS_DOWN="yes").returncode != 0
    assert checkout.setup(f"TORCH_INDEX={index}").returncode == 0
    assert len(checkout.installs()) == 2
    assert "--force-reinstall" in checkout.installs()[0]


def test_changed_requirements_keep_the_build(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    os.utime(checkout.folder / ".venv/ready", (0, 0))
    assert checkout.setup().returncode == 0
    assert len(checkout.installs()) == 2
    assert "--force-reinstall" not in checkout.installs()[0]
