"""The files of sources that name a crawl or a wiki, kept in the run folder, so that a run reads the same to its end."""

import json
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
            SourceError: no server answers, or there is no such crawl, wiki or date.
        """
        name = f"listings/{source.name}.json"
        choice = digest_of(source.model_dump(mode="json", exclude={"base_urls"}))
        # what a file of records holds may have changed, and reading it again costs nothing
        kept = None if isinstance(source, CommonCrawlSource) and source.records else self._kept(name)
        if kept is not None and kept["choice"] == choice and kept["base_urls"] == source.base_urls:
            self._found[name] = kept
        else:
            date = kept["date"] if kept is not None and kept["choice"] == choice else None
            self._found[name] = {"choice": choice, "base_urls": source.base_urls, **self._resolve(source, date)}
        return [RemoteFile.from_json(file) for file in self._found[name]["files"]]

    def keep(self) -> None:
        """Write what was found into the run folder."""
        if self._files is not None:
            for name, listing in self._found.items():
                if listing != self._kept(name):
                    self._files.write_bytes(name, json.dumps(listing, ensure_ascii=False).encode())

    def _kept(self, name: str) -> dict[str, Any] | None:
        data = None if self._files is None or self._fresh else self._files.read_or_none(name)
        return None if data is None else json.loads(data)

    def _resolve(self, source: CommonCrawlSource | WikipediaSource, date: str | None) -> dict[str, Any]:
        if isinstance(source, CommonCrawlSource):
            found = commoncrawl.list_files(source, self._get)
        else:
            if date is not None:  # another mirror, not a newer dump
                source = source.model_copy(update={"date": date})
            date, found = wikimedia.list_files(source, self._get)
        return {"date": date, "files": [file.to_json() for file in found]}
