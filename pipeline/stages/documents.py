"""Raw records to documents: decode, extract, normalise, identify the language. One batch in, two batches out."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline.stages import charset, html, language, unicode, wikitext
from corpusmill.schemas.tables import DOCUMENT, REJECT

__all__ = ["extract_documents"]

Watch = Callable[[str], AbstractContextManager[None]]


def extract_documents(
    raw: pa.RecordBatch,
    source: str,
    extraction: html.ExtractSettings,
    identification: language.LanguageSettings,
    watch: Watch,
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Split a batch of raw records into documents and rejects, each in the order of the input.

    Args:
        raw: rows of `tables.RAW`.
        source: name of the source.
        extraction: how HTML becomes text.
        identification: how the language is found.
        watch: a stopwatch; `watch(stage)` times a block.

    Returns:
        Rows of `tables.DOCUMENT` for the records that yielded text, and of `tables.REJECT` for all others.
    """
    n_rows = raw.num_rows
    media = raw.column("media_type")
    reason = raw.column("reason")
    stage = pc.if_else(pc.is_valid(reason), "read", "extract")
    text = pa.nulls(n_rows, pa.string())
    title = raw.column("title")
    readable = pc.is_null(reason)

    with watch("charset"):
        wanted = pc.if_else(readable, raw.column("content"), pa.scalar(None, pa.large_binary()))
        decoded, codecs = charset.decode(wanted, raw.column("charset"))
    is_html = pc.and_(readable, pc.is_in(media, pa.array(["text/html", "application/xhtml+xml"])))
    is_wiki = pc.and_(readable, pc.is_in(media, pa.array(["text/x-wiki"])))
    with watch("html"):
        pages, titles, failures = html.extract(decoded.filter(is_html), extraction)
        text = pc.replace_with_mask(text, is_html, pages)
        title = pc.replace_with_mask(title, is_html, titles)
        reason = pc.replace_with_mask(reason, is_html, failures)
    with watch("wikitext"):
        languages = pc.fill_null(raw.column("language"), "en").filter(is_wiki)
        text = pc.replace_with_mask(text, is_wiki, wikitext.to_text(decoded.filter(is_wiki), languages.to_pylist()))
    is_plain = pc.and_(readable, pc.invert(pc.or_(is_html, is_wiki)))
    text = pc.if_else(is_plain, decoded, text)

    with watch("unicode"):
        text = unicode.normalise(text)
        title = unicode.normalise(title)
        title = pc.if_else(pc.equal(title, ""), pa.scalar(None, pa.string()), title)
    empty = pc.fill_null(pc.equal(text, ""), True)
    reason = pc.if_else(pc.and_(empty, pc.is_null(reason)), "no_text", reason)

    kept = pc.is_null(reason)
    rest = raw.filter(pc.invert(kept))
    rejects = {name: rest.column(name) for name in REJECT.columns.names if name not in ("stage", "reason")}
    rejects |= {"stage": stage.filter(pc.invert(kept)), "reason": reason.filter(pc.invert(kept))}

    text = text.filter(kept)
    with watch("language"):
        tags, scores = language.identify(text, identification)
    found = raw.filter(kept)
    documents = {name: found.column(name) for name in DOCUMENT.columns.names if name in found.schema.names}
    documents |= {
        "text": text,
        "title": title.filter(kept),
        "charset": codecs.filter(kept),
        "source": pa.repeat(source, len(text)),
        "language": tags,
        "language_score": scores,
        "n_bytes": pc.binary_length(text).cast(pa.int64()),
        "n_chars": pc.utf8_length(text).cast(pa.int64()),
    }
    return _batch(documents, DOCUMENT.columns), _batch(rejects, REJECT.columns)


def _batch(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
