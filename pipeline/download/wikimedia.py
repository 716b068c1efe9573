"""Which files the multistream dump of a wiki has (https://meta.wikimedia.org/wiki/Data_dumps/Status_format)."""

import re
from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from corpusmill.pipeline.download.client import redact
from corpusmill.pipeline.download.remote import Get, RemoteFile, first_answer, is_plain_path
from corpusmill.schemas.errors import RecipeError, SourceError
from corpusmill.schemas.source import WikipediaSource

__all__ = ["list_files"]

_DONE: Final = "done"
_MISSING: Final = "missing"
_MAX_TRIED: Final = 10
_DATE_LINK = re.compile(rb"""href\s*=\s*["']?(?:[^"'>\s]*/)?(\d{8})/?["'>\s]""", re.IGNORECASE)
_DUMP = re.compile(
    r"(?P<head>[\w.-]+-pages-articles-multistream)(?P<part>\d*)\.xml(?P<pages>-p(?P<first>\d+)p\d+)?\.bz2", re.ASCII
)
_SHA1_LINE = re.compile(r"^([0-9a-f]{40}) [ *](\S+)\s*$", re.MULTILINE)


class _File(BaseModel):
    url: str | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    sha1: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None


class _Job(BaseModel):
    status: str
    files: dict[str, _File] = {}


class _Jobs(BaseModel):
    articlesmultistreamdump: _Job = _Job(status=_MISSING)


class _Status(BaseModel):
    jobs: _Jobs


def list_files(source: WikipediaSource, get: Get) -> list[RemoteFile]:
    """The multistream dump that a source names: its parts in the order of their pages, or the one file of a small wiki.

    Args:
        source: of the recipe, with `wiki`.
        get: fetches the list of dates, the status of a dump, and its checksums where the status has none.

    Returns:
        Its files, each with its index.

    Raises:
        RecipeError: there is no such wiki or date, or that dump is not complete; begins with the name of the source's
            field.
        SourceError: no server answers, no dump is complete, or what the server says of one is damaged.
    """
    tried = {}
    for date in _list_dates(source, get)[:_MAX_TRIED] if source.date == "latest" else [source.date]:
        job = _read_status(source, get, date)
        if job.status == _DONE:
            return _remote_files(source, get, date, job.files)
        tried[date] = job.status
    if source.date != "latest":
        raise RecipeError(f"date: {_explain(source, get, tried[source.date])}")
    states = ", ".join(f"that of {date} is {state}" for date, state in tried.items())
    raise SourceError(f"{source.wiki} has no multistream dump that is done: {states}; try again in some days")


def _urls(source: WikipediaSource, path: str) -> tuple[str, ...]:
    return tuple(base.rstrip("/") + path for base in source.base_urls)


def _list_dates(source: WikipediaSource, get: Get) -> list[str]:
    """Of the dumps that are there, newest first."""
    urls = _urls(source, f"/{source.wiki}/")
    answer = first_answer(get, urls)
    if answer is None:
        raise RecipeError(
            f"wiki: there is no wiki {source.wiki!r}: nothing at {', '.join(map(redact, urls))}; write the name of its "
            "database, such as enwiki or zhwiki"
        )
    url, page = answer
    dates = sorted({date.decode() for date in _DATE_LINK.findall(page)}, reverse=True)
    if not dates:
        raise SourceError(
            f"{redact(url)} links to no dumps, it begins with {page[:80]!r}; name another server in base_urls"
        )
    return dates


def _read_status(source: WikipediaSource, get: Get, date: str) -> _Job:
    answer = first_answer(get, _urls(source, f"/{source.wiki}/{date}/dumpstatus.json"))
    if answer is None:
        return _Job(status=_MISSING)
    url, content = answer
    try:
        return _Status.model_validate_json(content).jobs.articlesmultistreamdump
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "JSON"
        raise SourceError(
            f"{redact(url)} is not the status of a dump ({place}: {problem['msg']}), it begins with {content[:80]!r}; "
            "run again, or name another server in base_urls"
        ) from error


def _explain(source: WikipediaSource, get: Get, state: str) -> str:
    """Why the dump of the date that the recipe names cannot be had."""
    if state == _MISSING:
        dates = _list_dates(source, get)
        if source.date not in dates:
            return f"{source.wiki} has no dump of {source.date}, only of {', '.join(dates)}; or write `date: latest`"
    return (
        f"the multistream dump of {source.wiki} of {source.date} is {state}, not done; write `date: latest` for the "
        "newest one that is"
    )


def _remote_files(source: WikipediaSource, get: Get, date: str, files: dict[str, _File]) -> list[RemoteFile]:
    dumps = [match for match in map(_DUMP.fullmatch, files) if match]
    if not dumps:
        raise SourceError(
            f"the multistream dump of {source.wiki} of {date} is done, but without a …-multistream.xml.bz2"
        )
    parts = [match for match in dumps if match["part"] or match["pages"]] or dumps  # the whole may stand beside them
    parts.sort(key=lambda match: (int(match["first"] or 0), int(match["part"] or 0)))
    pairs = [(match[0], f"{match['head']}-index{match['part']}.txt{match['pages'] or ''}.bz2") for match in parts]
    is_complete = all(files[name].sha1 for pair in pairs for name in pair if name in files)
    checksums = {} if is_complete else _read_checksums(source, get, date)

    def remote_file(name: str, index: RemoteFile | None = None) -> RemoteFile:
        file = files[name]
        path = file.url or f"/{source.wiki}/{date}/{name}"
        if not path.startswith("/") or not is_plain_path(path[1:]):
            raise SourceError(
                f"the status of {source.wiki} of {date} says that {name} is at {path!r}, which is no absolute path; "
                "name another server in base_urls"
            )
        sha1 = file.sha1 or checksums.get(name)
        return RemoteFile(path=name, urls=_urls(source, path), n_bytes=file.size, sha1=sha1, index=index)

    return [remote_file(name, remote_file(index) if index in files else None) for name, index in pairs]


def _read_checksums(source: WikipediaSource, get: Get, date: str) -> dict[str, str]:
    """The sha1 of each file of a dump by its name; empty where the server has no list."""
    answer = first_answer(get, _urls(source, f"/{source.wiki}/{date}/{source.wiki}-{date}-sha1sums.txt"))
    lines = answer[1].decode("ascii", "replace") if answer else ""
    return {name: sha1 for sha1, name in _SHA1_LINE.findall(lines)}
