"""From a YAML file to a checked model: extends, environment variables, --set, and errors that help.

Recipes (`recipe_file`) and training configurations (`corpusmill.train.config`) are both read here.
"""

import copy
import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from corpusmill.schemas.errors import UsageError

__all__ = ["ConfigKind", "nearest"]

_M = TypeVar("_M", bound=BaseModel)
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a misspelt name: `did you mean 'gopher'?`, or the list of what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


class _Loader(yaml.SafeLoader):
    """YAML without its trap: of a key that stands twice the last one wins silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; raises YAMLError for a repeated key."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one mapping, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep=deep)


@dataclass(frozen=True, kw_only=True)
class ConfigKind(Generic[_M]):
    """A kind of YAML file and the model that checks it.

    Attributes:
        model: checks the fields.
        noun: what a user calls such a file.
        error: raised for whatever is wrong.
        ready: where ready files are.
        example: a good --set.
        exclusive: by path of a field the sibling that it replaces.
        anchor: makes the relative paths among the fields absolute, below a folder.
    """

    model: type[_M]
    noun: str
    error: type[UsageError]
    ready: str
    example: str
    exclusive: Mapping[tuple[str, ...], str]
    anchor: Callable[[dict[str, Any], Path], None]

    def load(self, path: str | Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None) -> _M:
        """Read, merge and check a file.

        Relative paths start at the folder of the file that names them; those given by an override start at the
        working directory. `${NAME}` and `${NAME:-default}` are taken from the environment.

        Args:
            path: the YAML file; None: there is none.
            overrides: `key.path=value` as given to --set; values are YAML.
            base: fields that the file and the overrides change.

        Raises:
            UsageError: of the kind's own type, naming the field, its value, what is wrong and what to write.
        """
        data = copy.deepcopy(dict(base or {}))
        if path is not None:
            data = self._merge(data, self._read(Path(path), ()), ())
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals or not key:
                raise self.error(f"--set {override!r}: expected key=value, such as --set {self.example}")
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise self.error(f"--set {override!r}: the value is not YAML: {error}") from error
            if text == "":
                raise self.error(f"--set {override!r}: the value is empty; write {key}=none to switch something off")
            self._assign(data, key.split("."), value, override)
        self.anchor(data, Path.cwd())
        return self.check(data, str(path) if path is not None else f"the {self.noun}")

    def check(self, data: Mapping[str, Any], where: str) -> _M:
        """The model of some fields. Raises UsageError (see `load`)."""
        try:
            return self.model.model_validate(data)
        except ValidationError as error:
            raise self.error(_explain(error, where, self.model, self.noun)) from error

    def _read(self, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
        path = path.resolve()
        if path in seen:
            raise self.error(f"{path}: extends itself through {' -> '.join(str(p) for p in seen)}")
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        except FileNotFoundError:
            raise self.error(f"no {self.noun} at {path}; {self.ready}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(f"cannot read the {self.noun} {path}: {error}") from error
        except yaml.YAMLError as error:
            raise self.error(f"{path} is not YAML: {error}") from error
        if not isinstance(data, dict):
            raise self.error(f"{path} holds {type(data).__name__}, not fields")
        data = {key: self._expand(value, str(path), str(key)) for key, value in data.items()}
        self.anchor(data, path.parent)
        base = data.pop("extends", None)
        if base is None:
            return data
        if not isinstance(base, str):
            raise self.error(f"{path}: extends: {base!r} is not the path of a {self.noun}")
        return self._merge(self._read(path.parent / base, (*seen, path)), data, ())

    def _expand(self, value: Any, where: str, field: str) -> Any:
        if isinstance(value, dict):
            return {key: self._expand(item, where, f"{field}.{key}".lstrip(".")) for key, item in value.items()}
        if isinstance(value, list):
            return [self._expand(item, where, f"{field}.{i}") for i, item in enumerate(value)]
        if not isinstance(value, str):
            return value

        def lookup(match: re.Match[str]) -> str:
            found = os.environ.get(match[1], match[2])
            if found is None:
                raise self.error(
                    f"{where}: {field}: {value!r} needs the environment variable {match[1]}; "
                    f"set it, or write ${{{match[1]}:-default}}"
                )
            return found

        return _VARIABLE.sub(lookup, value)

    def _merge(self, base: dict[str, Any], top: Mapping[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        """`top` over `base`: mappings merge, everything else (lists too) is replaced."""
        merged = dict(base)
        for key, value in top.items():
            merged.pop(self.exclusive.get((*at, str(key)), ""), None)
            old = merged.get(key)
            merged[key] = (
                self._merge(old, value, (*at, key)) if isinstance(old, dict) and isinstance(value, dict) else value
            )
        return merged

    def _assign(self, data: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
        node: Any = data
        for i, key in enumerate(keys):
            last = i == len(keys) - 1
            if isinstance(node, list):
                if not key.isdigit() or int(key) >= len(node):
                    raise self.error(f"--set {override!r}: {'.'.join(keys[:i])} has {len(node)} entries, no {key!r}")
                index: Any = int(key)
            else:
                index = key
                node.pop(self.exclusive.get(tuple(keys[: i + 1]), ""), None)
            if last:
                node[index] = value
                return
            if not isinstance(node[index] if isinstance(node, list) else node.get(index), dict | list):
                node[index] = {}
            node = node[index]


def _explain(error: ValidationError, where: str, model: type[BaseModel], noun: str) -> str:
    # Pydantic adds the tried branch of a union (`Dedup`, `list[str]`, `literal['any']`) to the path; users wrote none.
    problems = [(tuple(filter(_is_written, problem["loc"])), problem) for problem in error.errors()]
    lines = []
    for loc, problem in problems:
        if problem["type"] == "literal_error" and any(len(o) > len(loc) and o[: len(loc)] == loc for o, _ in problems):
            continue  # the other branch of the union failed deeper down: that is the message that helps
        field = ".".join(map(str, loc)) or noun
        given = repr(problem["input"])
        given = given if len(given) <= 80 else given[:77] + "..."
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            lines.append(f"{field}: there is no such field; {nearest(str(loc[-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"{field}: is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{field}: {given}: {message}")
    return f"{where}:\n  " + "\n  ".join(dict.fromkeys(lines))


def _is_written(part: str | int) -> bool:
    return isinstance(part, int) or re.fullmatch(r"[a-z_]\w*", part) is not None


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Field names that a model has at a path."""
    branches: list[type[BaseModel]] = []
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            model = next((branch for branch in branches if branch.__name__ == part), model)
            continue
        branches = _models_in(model.model_fields[part].annotation)
        if not branches:
            return []
        model = branches[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
