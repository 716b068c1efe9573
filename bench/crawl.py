"""Texts of real pages, as a run extracts them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from reading import whole

from corpusmill.pipeline.sources import read
from corpusmill.pipeline.stages.documents import extract_documents
from corpusmill.pipeline.stages.html import ExtractSettings
from corpusmill.pipeline.stages.language import LanguageSettings

__all__ = ["crawl_texts"]


def crawl_texts(data: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each document of the crawl in a folder of real inputs."""
    settings = ExtractSettings(), LanguageSettings()
    for path in sorted((data / "crawl").glob("*.warc.gz")):
        for raw in read(whole(path, "warc"), Counter()):
            documents, _ = extract_documents(raw, "crawl", *settings, lambda stage: nullcontext())
            yield from zip(*(documents.column(name).to_pylist() for name in ("language", "text")), strict=True)
