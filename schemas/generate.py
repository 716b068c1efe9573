"""Write the JSON Schemas of recipe and manifest: `python -m corpusmill.schemas.generate`."""

import json
from pathlib import Path

from pydantic import BaseModel

from corpusmill.schemas.manifest import Manifest
from corpusmill.schemas.recipe import Recipe

__all__ = ["SCHEMAS", "json_schema"]

SCHEMAS: dict[str, type[BaseModel]] = {"recipe.schema.json": Recipe, "manifest.schema.json": Manifest}
"""Model by file name in this folder."""


def json_schema(model: type[BaseModel]) -> str:
    """The JSON Schema (draft 2020-12) of a model as it stands in the repository."""
    schema = model.model_json_schema()
    if model is Recipe:
        schema["properties"]["extends"] = {
            "type": "string",
            "description": "path of a recipe that this one changes, relative to this file",
        }
        schema["required"] = []  # `sources` may come from the recipe that is extended
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        Path(__file__).with_name(name).write_text(json_schema(model), encoding="utf-8")
