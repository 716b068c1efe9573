"""A file that a server holds, as the list of a crawl or of a dump describes it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from corpusmill.schemas.errors import SchemaError, SourceError

__all__ = ["Get", "RemoteFile", "first_answer", "is_plain_path"]

Get = Callable[[str], bytes | None]
"""Fetches a small document by its URL; None where there is none. Raises SourceError where it cannot be had."""

_SHA1 = re.compile(r"[0-9a-f]{40}")
_PLAIN_PATH = re.compile(r"[\w.~!$&'()*+,;=@:-]+(?:/[\w.~!$&'()*+,;=@:-]+)*", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file to download.

    Attributes:
        path: name relative to the root of its source; stands in ids and tables.
        urls: mirrors, in the order in which they are tried.
        n_bytes: size, where the server tells it.
        sha1: digest of the content, 40 hex digits.
        index: the index of a multistream dump.
        spans: the stretches that are wanted, (offset, bytes), ascending, with a gap between any two; none: all.

    Raises:
        SourceError: `path` is not relative or leaves its folder, or another field is not as above.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    path: str
    urls: tuple[str, ...]
    n_bytes: int | None = None
    sha1: str | None = None
    index: "RemoteFile | None" = None
    spans: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.path or self.path[0] == "/" or ".." in self.path.split("/") or "\0" in self.path:
            raise SourceError(f"{self.path!r} is no name below a folder: it must be relative, without '..'")
        if not self.urls:
            raise SourceError(f"{self.path} has no URL")
        if self.sha1 is not None and not _SHA1.fullmatch(self.sha1):
            raise SourceError(f"{self.path}: {self.sha1!r} is no sha1: 40 hex digits in lower case")
        end = -1
        for offset, length in self.spans:
            if offset <= end or length <= 0:
                raise SourceError(f"{self.path}: span {offset}+{length} is empty, or touches the one before")
            end = offset + length

    def to_json(self) -> dict[str, Any]:
        """The file as JSON has it: dicts, lists, strings, numbers and None."""
        data: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return data

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """What `to_json` gave.

        Raises:
            SchemaError: a field that is missing, not known, or of another type.
        """
        try:
            file: Self = _ADAPTER.validate_python(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"])) or "file"
            raise SchemaError(
                f"a list of files to download cannot be read ({place}: {problem['msg']}): another version of "
                "corpusmill wrote it; remove it, and it is made again"
            ) from error
        return file


_ADAPTER: Final[TypeAdapter[Any]] = TypeAdapter(RemoteFile)


def is_plain_path(text: str) -> bool:
    """Whether a name out of a list can be put behind a URL as it is: RFC 3986 path segments, nothing escaped."""
    return _PLAIN_PATH.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


def first_answer(get: Get, urls: Sequence[str]) -> tuple[str, bytes] | None:
    """The first of some mirrors that has a document, with what it has; None if all say that there is none.

    Raises:
        SourceError: none has it, and some cannot be asked.
    """
    failures = []
    for url in urls:
        try:
            content = get(url)
        except SourceError as error:
            failures.append(error)
            continue
        if content is not None:
            return url, content
    if failures:
        raise SourceError("\n".join(map(str, failures))) from failures[0]
    return None
