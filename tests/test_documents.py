"""What the documents say is so: both READMEs in step, links that lead somewhere, commands that exist."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from corpusmill.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ("docs/sources.md", "docs/training.md")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def command_lines(program: str) -> list[str]:
    """The lines of code blocks that call a program, continued lines joined."""
    blocks = [block for name in ("README.md", *GUIDES) for block in FENCED.findall(read(name))]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(f"{program} ")]


def headings(name: str) -> list[int]:
    """The levels of a document's headings, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCED.sub("", read(name)), re.MULTILINE)]


def test_the_readmes_are_in_step() -> None:
    assert FENCED.findall(read("README.zh.md")) == FENCED.findall(read("README.md"))
    assert headings("README.zh.md") == headings("README.md")


@pytest.mark.parametrize("name", [*(path.name for path in ROOT.glob("*.md")), *GUIDES])
def test_relative_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", FENCED.sub("", read(name)))
    folder = (ROOT / name).parent
    assert [link for link in links if "://" not in link and not (folder / link).exists()] == []


def test_commands_of_the_readme_are_understood() -> None:
    lines = command_lines("corpusmill")
    assert lines
    for line in lines:
        _, name, *arguments = shlex.split(line, comments=True)
        # Parsing without running fails on an option that --help does not have, and on wrong values too.
        command = get_command(import_module(COMMANDS[name][0]).app)
        command.make_context(name, arguments).close()


def test_make_targets_of_the_readme_exist() -> None:
    targets = {line.split()[1] for line in command_lines("make")}
    assert targets
    assert targets <= set(re.findall(r"^([\w-]+):(?!=)", read("Makefile"), re.MULTILINE))
