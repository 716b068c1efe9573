"""Where records come from: one class a kind of source, with the fields that it has."""

import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from corpusmill.schemas.config_file import nearest

__all__ = [
    "CommonCrawlSource",
    "FileSource",
    "Source",
    "TableSource",
    "TextSource",
    "WikipediaSource",
]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Urls = Annotated[list[Annotated[str, Field(pattern=r"^https?://[^/]")]], Field(min_length=1)]


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileSource(_Source):
    """Files of web pages.

    Attributes:
        kind: `warc` (WARC and ARC; responses and resources with HTML, and conversions), `wet` (Common Crawl's plain
            text: a WARC file of conversions), or `html` (pages as files, in folders or zip archives).
        name: stands in the `source` column; unique in the recipe.
        paths: local paths, URLs (http, https, s3, gs, and what else fsspec opens) and globs of both; relative ones
            start at the recipe's folder.
        root: folder or URL that file names are relative to; default: the part of each path before its first
            wildcard, without the file name.
    """

    kind: Literal["warc", "wet", "html"]
    name: Annotated[str, Field(pattern=_NAME)]
    paths: Annotated[list[str], Field(min_length=1)]
    root: str | None = None


class TextSource(_Source):
    """Plain text, as it is or packed by gzip or zstd.

    Attributes:
        kind: text.
        name: see `FileSource`.
        paths: see `FileSource`.
        root: see `FileSource`.
        each: what a document is: the whole `file`, or each `line`.
    """

    kind: Literal["text"]
    name: Annotated[str, Field(pattern=_NAME)]
    paths: Annotated[list[str], Field(min_length=1)]
    root: str | None = None
    each: Literal["file", "line"] = "file"


class TableSource(_Source):
    """Rows with named fields.

    Attributes:
        kind: `jsonl` (also .gz and .zst), `parquet`, or `dataset`: a folder that `datasets.save_to_disk` wrote or
            that `datasets.load_dataset` reads.
        name: see `FileSource`.
        paths: see `FileSource`; for `dataset` folders.
        root: see `FileSource`.
        columns: field of the document (id, text, title, url, date, language) to key of the line or column; a field
            without an entry is read from the column of its own name.
    """

    kind: Literal["jsonl", "parquet", "dataset"]
    name: Annotated[str, Field(pattern=_NAME)]
    paths: Annotated[list[str], Field(min_length=1)]
    root: str | None = None
    columns: dict[Literal["id", "text", "title", "url", "date", "language"], str] = {}


class WikipediaSource(_Source):
    """A MediaWiki dump: given by `paths`, or found on the dump server by `wiki` and `date`.

    Attributes:
        kind: wikipedia.
        name: see `FileSource`; default: `zhwiki-20261101`, or `zhwiki` where `date` is latest.
        paths: dumps of pages (XML, plain or packed by bzip2 or gzip); multistream ones are read in parallel.
        root: see `FileSource`.
        wiki: name of the wiki's database, such as zhwiki.
        date: `latest`, the newest dump that is complete, or eight digits.
        base_urls: dump servers, tried in this order.
        namespaces: numbers of the namespaces that are read; 0 are the articles.
        revisions: which revisions of a page are read, where a dump has several.
        redirects: write `redirects/`, a table of the redirects.
    """

    kind: Literal["wikipedia"]
    name: Annotated[str, Field(pattern=_NAME)]
    paths: Annotated[list[str], Field(min_length=1)] | None = None
    root: str | None = None
    wiki: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    date: Annotated[str, Field(pattern=r"^(latest|\d{8})$")] = "latest"
    base_urls: Urls = ["https://dumps.wikimedia.org"]
    namespaces: Annotated[list[int], Field(min_length=1)] = [0]
    revisions: Literal["newest", "all"] = "newest"
    redirects: bool = False

    @model_validator(mode="before")
    @classmethod
    def _date_and_name(cls, data: Any) -> Any:
        if isinstance(data, dict):
            if isinstance(data.get("date"), datetime.date):  # as YAML reads 2026-11-01
                data = data | {"date": data["date"].strftime("%Y%m%d")}
            elif isinstance(data.get("date"), int):  # as it reads 20261101
                data = data | {"date": str(data["date"])}
            if "name" not in data and isinstance(data.get("wiki"), str):
                date = data.get("date", "latest")
                data = data | {"name": data["wiki"] if date == "latest" else f"{data['wiki']}-{date}"}
        return data

    @model_validator(mode="after")
    def _one_of_two(self) -> "WikipediaSource":
        if (self.paths is None) == (self.wiki is None):
            raise ValueError("give exactly one of `paths: [dump.xml.bz2]` and `wiki: zhwiki`")
        return self


class CommonCrawlSource(_Source):
    """Files of a crawl of Common Crawl, or single records of it.

    Attributes:
        kind: commoncrawl.
        name: see `FileSource`; default: the crawl.
        crawl: name of the crawl, such as CC-MAIN-2026-10.
        what: warc, or wet (plain text).
        files: numbers of the files to take, in the order of the crawl's path list: `0-99`, `7`, `0-9,50-59`.
        fraction: share of the files to take, by a hash of `seed` and their names, 0 to 1.
        seed: of the choice by `fraction`.
        records: a JSONL file of single records to take (`filename`, `offset`, `length`), as the index gives them.
        base_urls: servers, tried in this order.
    """

    kind: Literal["commoncrawl"]
    name: Annotated[str, Field(pattern=_NAME)]
    crawl: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    what: Literal["warc", "wet"] = "warc"
    files: Annotated[str, Field(pattern=r"^\d+(-\d+)?(,\d+(-\d+)?)*$")] | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int = 1
    records: str | None = None
    base_urls: Urls = ["https://data.commoncrawl.org"]

    @model_validator(mode="before")
    @classmethod
    def _files_and_name(cls, data: Any) -> Any:
        if isinstance(data, dict):
            if isinstance(data.get("files"), int) and not isinstance(data["files"], bool):
                data = data | {"files": str(data["files"])}
            if "name" not in data and isinstance(data.get("crawl"), str):
                data = data | {"name": data["crawl"]}
        return data

    @model_validator(mode="after")
    def _one_choice(self) -> "CommonCrawlSource":
        given = [name for name in ("files", "fraction", "records") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of `files: 0-99`, `fraction: 0.01` (1 is the whole crawl) and `records: index.jsonl`"
            )
        if self.records is not None and self.what == "wet":
            raise ValueError("records are those of WARC files: the index knows no others; remove `what: wet`")
        for part in (self.files or "").split(","):
            first, _, last = part.partition("-")
            if last and int(last) < int(first):
                raise ValueError(f"files: {part!r} runs backwards; write {last}-{first}")
        return self


_CLASSES: Final = (FileSource, TextSource, TableSource, WikipediaSource, CommonCrawlSource)
_BY_KIND: Final = {kind: cls for cls in _CLASSES for kind in get_args(cls.model_fields["kind"].annotation)}


def _check_kind(value: Any) -> Any:
    if isinstance(value, dict):
        kind = value.get("kind")
        if kind is None:
            raise ValueError(f"kind is missing; write one of {', '.join(_BY_KIND)}")
        if kind not in _BY_KIND:
            raise ValueError(f"kind {kind!r} is not known; {nearest(str(kind), list(_BY_KIND))}")
    return value


def _class_name(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return _BY_KIND[kind].__name__ if kind in _BY_KIND else None


# The tags are class names, which are not words that a field can be called: error messages leave them out.
Source = Annotated[
    Annotated[FileSource, Tag("FileSource")]
    | Annotated[TextSource, Tag("TextSource")]
    | Annotated[TableSource, Tag("TableSource")]
    | Annotated[WikipediaSource, Tag("WikipediaSource")]
    | Annotated[CommonCrawlSource, Tag("CommonCrawlSource")],
    Discriminator(_class_name),
    BeforeValidator(_check_kind),
]
"""A source of any kind; `kind` says which."""
