"""What is installed is all that is needed, and no more: the wheel, the imports, the images, the licences."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from corpusmill.cli.main import COMMANDS
from tests.corpus import small_corpus
from tests.train.corpus import small_dataset

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cli", "pipeline", "schemas", "train")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def sources(*folders: str) -> list[Path]:
    """The Python files of packages, relative to the repository; scripts that build data are none."""
    found = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if (ROOT / path.parent / "__init__.py").is_file())


def module_name(path: Path) -> str:
    return ".".join(("corpusmill", *path.with_suffix("").parts)).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, in functions and type-checking blocks too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str, *folders: str) -> list[str]:
    """The files that import a module or something below it."""
    return [
        str(path) for path in sources(*folders) if any(f"{name}.".startswith(f"{module}.") for name in imports(path))
    ]


def python(code: str, *arguments: str) -> str:
    """What code prints in a fresh interpreter; its errors are the test's."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT = """
import importlib.util, json, sys

class Missing:
    # Modules that are not there: their import fails in the file that asks for them, which the error names.
    names = frozenset(json.loads(sys.argv[1]))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in cls.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing)

find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] in Missing.names else find(name, *rest)
"""
"""Makes the modules named in the first argument fail to import, as where they are not installed."""


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that no old build folder gets into it."""
    copy = tmp_path_factory.mktemp("wheel") / "source"
    copytree(ROOT, copy, ignore=ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "demo-run", "runs"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy.parent), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = copy.parent.glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_package_on_disk_is_listed() -> None:
    # A package that is missing from the list imports fine in an editable installation and is absent from the wheel.
    on_disk = {module_name(path) for path in sources(*FOLDERS) if path.name == "__init__.py"}
    assert on_disk == set(SETUPTOOLS["packages"])
    assert {name.removeprefix("corpusmill."): name for name in SETUPTOOLS["package-dir"]} == {
        folder: f"corpusmill.{folder}" for folder in FOLDERS
    }


def test_every_folder_of_code_is_a_package() -> None:
    code = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    no_package = {str(folder.relative_to(ROOT)) for folder in code if not (folder / "__init__.py").is_file()}
    assert no_package == {"pipeline/data"}, "scripts beside the tables that they build"


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    info = f"corpusmill-{PROJECT['version']}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"corpusmill", info}
    assert {name for name in names if name.endswith(".py")} == {f"corpusmill/{path}" for path in sources(*FOLDERS)}
    assert not [name for name in names if "test" in name or "bench" in name]
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(names)


def test_the_wheel_holds_the_data(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if name.startswith("corpusmill/") and not name.endswith(".py")}
    data = {path for path in (ROOT / "pipeline" / "data").iterdir() if path.suffix != ".py" and path.is_file()}
    schemas = set((ROOT / "schemas").glob("*.schema.json"))
    marks = {ROOT / folder / "py.typed" for folder in FOLDERS}
    assert {path.name for path in data} >= {"lid.176.ftz", "shingle-table.npz"}
    assert len(schemas) >= 2
    assert shipped == {f"corpusmill/{path.relative_to(ROOT)}" for path in data | schemas | marks}
    assert wheel.read("corpusmill/pipeline/data/lid.176.ftz") == (ROOT / "pipeline/data/lid.176.ftz").read_bytes()


# --- what imports what


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_none_of_the_big_libraries(arguments: list[str]) -> None:
    code = """
import json, sys
from corpusmill.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as done:
    code = done.code
assert not code, code
print("\\n" + json.dumps([name for name in ("apache_beam", "torch", "datasets") if name in sys.modules]))
"""
    *help_text, big = python(code, *arguments).splitlines()
    assert json.loads(big) == []
    assert len(help_text) > 5


def test_pure_modules_need_neither_beam_nor_torch() -> None:
    modules = [
        module_name(path)
        for path in sources("pipeline", "schemas")
        if path.parts[0] == "schemas" or path.parts[1] in ("stages", "dedup", "jobs", "sources")
    ]
    assert len(modules) > 30
    code = """
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
    python(WITHOUT + code, json.dumps(["apache_beam", "torch"]), *modules)


def test_each_half_keeps_to_itself() -> None:
    assert importers("torch", "schemas", "pipeline", "cli") == []
    assert importers("apache_beam", "schemas", "train", "cli") == []
    beam = importers("apache_beam", "pipeline")
    assert "pipeline/graph.py" in beam
    assert {str(Path(path).parent) for path in beam} == {"pipeline"}, "stages, jobs and readers know no Beam"
    assert importers("corpusmill.pipeline", "schemas", "train", "cli") == []
    assert importers("corpusmill.train", "schemas", "pipeline", "cli") == []
    assert importers("corpusmill.cli", "schemas", "pipeline", "train") == []


def test_bare_names_are_not_imported() -> None:
    for folder in FOLDERS:
        assert importers(folder, *FOLDERS) == [], f"{folder} is a second copy of corpusmill.{folder}"


def distributions(requirements: Iterable[str], extras: Iterable[str] = ()) -> set[str]:
    """The named distributions and all that they need, as far as installed."""
    found: dict[str, set[str]] = {}
    waiting = [(text, frozenset(extras)) for text in requirements]
    while waiting:
        text, wanted = waiting.pop()
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in wanted or {""}):
            continue
        name = canonicalize_name(requirement.name)
        if name in found and requirement.extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | requirement.extras
        try:
            waiting += [(child, frozenset(found[name])) for child in requires(name) or ()]
        except PackageNotFoundError:
            continue
    return set(found)


def declared(*extras: str) -> list[str]:
    """The requirements of the base installation and of some extras."""
    optional = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]


def direct(*extras: str) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in declared(*extras)}


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("cli", direct()),
        ("schemas", direct("pipeline") & direct("train")),  # tokenizers, imported when a half calls for it
        ("pipeline", direct("pipeline", "dask")),
        ("train", direct("train")),
    ],
)
def test_what_is_imported_is_declared(folder: str, names: set[str]) -> None:
    brought = {
        "dask": {"apache-beam"},
        "distributed": {"apache-beam"},
        "grpc": {"apache-beam"},
    }  # by Beam and its extras
    provided = {name: set(owners) for name, owners in brought.items()}
    for module, owners in packages_distributions().items():
        provided.setdefault(module, set()).update(map(canonicalize_name, owners))
    for path in sources(folder):
        for module in (
            {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"corpusmill"}
        ):
            assert provided.get(module, set()) & names, f"{path} imports {module}, which no extra of {folder} declares"


def foreign_modules(*extras: str) -> list[str]:
    """What is importable here and not after `pip install corpusmill[extras]`."""
    allowed = distributions(declared(*extras)) | {"corpusmill"}
    owned = {name: {canonicalize_name(owner) for owner in owners} for name, owners in packages_distributions().items()}
    return [name for name, owners in owned.items() if not owners & allowed]


def test_the_base_installation_reads_recipes_and_explains_itself(tmp_path: Path) -> None:
    foreign = foreign_modules()
    assert {"apache_beam", "numpy", "tokenizers", "torch"} <= set(foreign)
    code = """
import importlib
from corpusmill.cli.main import main
for name in sys.argv[4:]:
    importlib.import_module(name)
from corpusmill.schemas.recipe_file import load_recipe
assert load_recipe(sys.argv[2]).sources
assert main(["--help"]) == 0
assert main(["run", sys.argv[2], "--out", sys.argv[3]]) == 1
"""
    modules = [module_name(path) for path in sources("schemas", "cli")]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT + code,
            json.dumps(foreign),
            str(ROOT / "recipes/demo.yaml"),
            str(tmp_path),
            *modules,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'corpusmill[pipeline]'" in done.stderr


def test_a_run_needs_only_what_the_extra_pipeline_brings(tmp_path: Path) -> None:
    foreign = foreign_modules("pipeline")
    assert {"datasets", "duckdb", "pandas", "pytest", "torch"} <= set(foreign), "the environment of the tests has more"
    code = """
from corpusmill.pipeline.run import run
from corpusmill.schemas.recipe import Recipe
run(Recipe.model_validate(json.loads(sys.argv[2])), sys.argv[3])
"""
    fields = small_corpus(tmp_path / "corpus")
    python(WITHOUT + code, json.dumps(foreign), json.dumps(fields), str(tmp_path / "run"))
    assert json.loads((tmp_path / "run/dataset/manifest.json").read_text())["shards"]


def test_training_needs_only_what_the_extra_train_brings(tmp_path: Path) -> None:
    foreign = foreign_modules("train")
    assert {"apache_beam", "transformers", "datasets", "pytest"} <= set(foreign)
    code = """
from corpusmill.train.__main__ import main
assert main(sys.argv[2:]) == 0
"""
    small_dataset(tmp_path / "dataset")
    arguments = ["--data", str(tmp_path / "dataset"), "--out", str(tmp_path / "run"), "--set", "optim.steps=2"]
    sizes = ["model.preset=nano", "model.dim=32", f"data.cache={tmp_path / 'cache'}"]
    missing = json.dumps([*foreign, "numba"])
    python(WITHOUT + code, missing, *arguments, *(word for size in sizes for word in ("--set", size)))
    assert (tmp_path / "run/step-2/model/model.safetensors").is_file()


# --- the images


def constraints() -> dict[str, str]:
    lines = (ROOT / "docker/constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): pinned for name, _, pinned in (line.partition("==") for line in lines) if pinned}


def test_the_images_versions_are_those_that_pyproject_allows() -> None:
    pinned = constraints()
    for line in declared("pipeline", "gcp", "train"):
        requirement = Requirement(line)
        if requirement.name == "torch":
            (image,) = re.findall(
                r"^ARG TORCH=torch==(.+)$", (ROOT / "docker/train.Dockerfile").read_text(), re.MULTILINE
            )
            assert image in requirement.specifier
        else:
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, line


def test_the_images_name_one_python_and_one_beam() -> None:
    files = {name: (ROOT / f"docker/{name}.Dockerfile").read_text() for name in ("pipeline", "train")}
    python_images = {
        re.search(r"^ARG PYTHON_IMAGE=python:(3\.\d+)\.\d+-slim", text, re.MULTILINE) for text in files.values()
    }
    minors = {match[1] for match in python_images if match}
    (beam,) = re.findall(r"apache/beam_python(3\.\d+)_sdk:(\S+)", files["pipeline"])
    assert {beam[0]} == minors
    assert beam[1] == constraints()["apache-beam"]
    assert "apache/beam" not in files["train"]


def test_the_build_context_holds_what_the_images_copy() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("pipeline", "train"):
        text = (ROOT / f"docker/{name}.Dockerfile").read_text()
        copied = {path for line in re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE) for path in line.split()}
        assert copied == allowed
        assert all((ROOT / path).exists() for path in copied)


# --- licences, and the Makefile's list


def test_every_file_of_others_has_its_licence_in_notice() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    patterns = [
        word.rstrip(",") for line in notice.splitlines() if line[:1].isalpha() for word in line.split() if "/" in word
    ]
    data = [path for path in (ROOT / "pipeline/data").iterdir() if path.suffix != ".py" and path.is_file()]
    data += [path for suffix in ("gz", "bz2") for path in (ROOT / "recipes/demo").glob(f"*.{suffix}")]
    assert len(data) >= 8
    for path in data:
        assert any(path.relative_to(ROOT).match(pattern) for pattern in patterns), f"NOTICE does not name {path.name}"


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    (line,) = re.findall(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^  ([\w-]+) ", done.stdout, re.MULTILINE) == line.split()


def test_version_is_the_installed_one() -> None:
    assert version("corpusmill") == PROJECT["version"]
