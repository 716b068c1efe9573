"""Whether the disk has room for what is about to be downloaded, before anything is."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from corpusmill.pipeline.plan import SourceFile
from corpusmill.schemas.console import human_bytes
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.files import Files

__all__ = ["check_space"]

_SAMPLE = 8


def check_space(files: Files, inputs: Sequence[SourceFile], size: Callable[[str], int | None]) -> None:
    """Refuse a download that cannot end.

    Of files whose size is not listed (Common Crawl lists none) some, evenly spread, are asked for; those of a crawl
    are alike, so their mean stands for all.

    Args:
        files: the run folder.
        inputs: of the run; what is read in place, or is there already, does not count.
        size: asks a server for the size of a URL in bytes; None if it does not say.

    Raises:
        SourceError: naming what is needed and what is free.
    """
    if not files.is_local:
        return
    remote = [file for file in inputs if file.remote is not None and not files.exists(file.raw_name)]
    if not remote:
        return
    known = [file.n_bytes for file in remote if file.n_bytes is not None]
    unknown = [file.remote for file in remote if file.remote and file.n_bytes is None]
    sample = unknown[:: max(1, len(unknown) // _SAMPLE)][:_SAMPLE]
    sizes = [n for file in sample if (n := _size(file.urls, size)) is not None]
    needed = sum(known) + (sum(sizes) / len(sizes) * len(unknown) if sizes else 0)
    needed -= sum(part.stat().st_size for file in remote if (part := files.partial_path(file.raw_name)).exists())
    folder = Path(files.path("raw"))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SourceError(
            f"{len(remote)} files to download have {'about ' if sizes else ''}{human_bytes(needed)}, {folder} has "
            f"{human_bytes(free)} free: take fewer files, or another --out"
        )


def _size(urls: Sequence[str], size: Callable[[str], int | None]) -> int | None:
    """Size of a file by the first mirror that tells it; that none has it is the download's business."""
    for url in urls:
        with contextlib.suppress(SourceError):
            if (n_bytes := size(url)) is not None:
                return n_bytes
    return None
