"""From a YAML file to a checked `Recipe`."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpusmill.schemas.config_file import ConfigKind
from corpusmill.schemas.errors import RecipeError
from corpusmill.schemas.recipe import Recipe

__all__ = ["load_recipe"]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge and check a recipe (see `ConfigKind.load`).

    Args:
        path: the YAML file.
        overrides: `key.path=value` as given to --set; values are YAML.

    Raises:
        RecipeError: naming the field, its value, what is wrong and what to write.
    """
    return _RECIPE.load(path, overrides)


def _anchor(data: dict[str, Any], folder: Path) -> None:
    """Make relative input paths absolute, so that they mean the same whoever extends the file."""

    def absolute(value: Any, base: Path = folder) -> Any:
        if not isinstance(value, str) or "://" in value or value in ("", "none"):
            return value
        return str(base / Path(value).expanduser())

    sources = data.get("sources")
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, dict):
            if isinstance(source.get("paths"), list):
                pattern = Path(glob.escape(str(folder)))  # the folder is a name, what follows may have wildcards
                source["paths"] = [absolute(path, pattern) for path in source["paths"]]
            for field in ("root", "records"):
                if field in source:
                    source[field] = absolute(source[field])
    for section, field in (("tokenizer", "path"), ("language", "model")):
        if isinstance(data.get(section), dict) and field in data[section]:
            data[section][field] = absolute(data[section][field])


_RECIPE = ConfigKind(
    model=Recipe,
    noun="recipe",
    error=RecipeError,
    ready="ready ones are in the folder recipes/",
    example="dedup.minhash.threshold=0.8",
    exclusive={("tokenizer", "path"): "train", ("tokenizer", "train"): "path"},
    anchor=_anchor,
)
