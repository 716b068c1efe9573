"""One run of the small corpus, shared by the tests that only look at its result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.run import RunReport, run
from corpusmill.schemas.recipe import Recipe
from tests.corpus import small_corpus


@dataclass(frozen=True)
class Finished:
    """A finished run: its recipe as a mapping, its folder, and the report of the driver."""

    fields: dict[str, Any]
    out: Path
    report: RunReport

    @property
    def recipe(self) -> Recipe:
        return Recipe.model_validate(self.fields)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("small")
    fields = small_corpus(folder / "corpus")
    report = run(Recipe.model_validate(fields), str(folder / "run"))
    return Finished(fields, folder / "run", report)
