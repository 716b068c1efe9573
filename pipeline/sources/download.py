"""Download of one file by HTTP."""

import importlib.metadata
from collections.abc import Callable

import httpx

from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.files import StagedFile

__all__ = ["download"]

_BLOCK = 1 << 20
_TIMEOUT = httpx.Timeout(30.0, read=60.0)  # seconds


def download(url: str, out: StagedFile, *, progress: Callable[[int, int | None], None] | None = None) -> None:
    """Fetch a URL into a staged file, which the caller publishes; redirects are followed.

    The bytes are those on the wire: `Accept-Encoding: identity` asks for the file as it is stored, and what a server
    compresses all the same is not decoded.

    Args:
        url: http or https.
        out: gets the content; it is discarded on any error.
        progress: is called with the bytes received so far and the size, None where the server does not say.

    Raises:
        SourceError: the server cannot be reached, answers another status than 200, or sends fewer bytes than it
            announced.
    """
    headers = {
        "User-Agent": f"corpusmill/{importlib.metadata.version('corpusmill')}",
        "Accept-Encoding": "identity",
    }
    try:
        with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
            _receive(url, response, out, progress)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        out.discard()
        raise SourceError(f"{url} cannot be downloaded: {error or type(error).__name__}") from error
    except BaseException:
        out.discard()
        raise


def _receive(
    url: str, response: httpx.Response, out: StagedFile, progress: Callable[[int, int | None], None] | None
) -> None:
    if response.status_code != httpx.codes.OK:
        raise SourceError(f"{url} cannot be downloaded: status {response.status_code} {response.reason_phrase}")
    length = response.headers.get("Content-Length")
    for block in response.iter_raw(_BLOCK):  # raises where the body is shorter than Content-Length
        out.write(block)
        if progress is not None:
            progress(out.tell(), int(length) if length else None)
