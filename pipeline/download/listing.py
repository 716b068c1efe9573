"""The files of sources that name a crawl or a wiki, kept in the run folder, so that a run reads the same to its end."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from corpusmill.pipeline.download import commoncrawl, wikimedia
from corpusmill.pipeline.download.remote import Get, RemoteFile
from corpusmill.schemas.commits import digest_of
from corpusmill.schemas.files import Files
from corpusmill.schemas.source import CommonCrawlSource, WikipediaSource

__all__ = ["Listings"]


class Listings:
    """Finds the files of a source once; the next run in the same folder takes the same ones, `latest` included.

    Args:
        get: fetches a small document; None where there is none.
        files: the run folder; None: nothing is kept.
        fresh: ask the servers again.
    """

    def __init__(self, get: Get, files: Files | None = None, *, fresh: bool = False) -> None:
        self._get = get
        self._files = files
        self._fresh = fresh
        self._found: dict[str, dict[str, Any]] = {}

    def __call__(self, source: CommonCrawlSource | WikipediaSource) -> list[RemoteFile]:
        """The files of a source, in order.

        Raises:
            RecipeError: there is no such crawl, wiki or date; see the modules that ask.
            SourceError: no server answers.
        """
        name = f"listings/{source.name}.json"
        choice = digest_of(source.model_dump(mode="json", exclude={"base_urls"}))
        # what a file of records holds may have changed, and reading it again costs nothing
        kept = None if isinstance(source, CommonCrawlSource) and source.records else self._kept(name)
        if kept is None or kept["choice"] != choice:
            files = [_without_mirrors(file, source.base_urls) for file in self._resolve(source)]
            kept = {"choice": choice, "files": [file.to_json() for file in files]}
        self._found[name] = kept
        return [_on_mirrors(RemoteFile.from_json(file), source.base_urls) for file in kept["files"]]

    def keep(self) -> None:
        """Write what was found into the run folder."""
        if self._files is not None:
            for name, listing in self._found.items():
                if listing != self._kept(name):
                    self._files.write_bytes(name, json.dumps(listing, ensure_ascii=False).encode())

    def _kept(self, name: str) -> dict[str, Any] | None:
        data = None if self._files is None or self._fresh else self._files.read_or_none(name)
        return None if data is None else json.loads(data)

    def _resolve(self, source: CommonCrawlSource | WikipediaSource) -> list[RemoteFile]:
        if isinstance(source, CommonCrawlSource):
            return commoncrawl.list_files(source, self._get)
        return wikimedia.list_files(source, self._get)


def _without_mirrors(file: RemoteFile, base_urls: Sequence[str]) -> RemoteFile:
    """A file as it is kept: mirrors may change from run to run, and their addresses may hold a password."""
    index = None if file.index is None else _without_mirrors(file.index, base_urls)
    return replace(file, urls=(file.urls[0].removeprefix(base_urls[0].rstrip("/")),), index=index)


def _on_mirrors(file: RemoteFile, base_urls: Sequence[str]) -> RemoteFile:
    index = None if file.index is None else _on_mirrors(file.index, base_urls)
    return replace(file, urls=tuple(base.rstrip("/") + file.urls[0] for base in base_urls), index=index)
