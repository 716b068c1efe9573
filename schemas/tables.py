"""The Arrow schema of every table that corpusmill writes, with units and versions (DESIGN §4).

A `Table` knows its name, its version and its columns. New nullable columns raise the minor version, which readers
accept; a rename, a new type or a removed column raises the major one, which readers refuse, naming both.
Ids are 32 hex digits in published tables and 16 bytes in the internal ones (`refined`, `signatures`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.schemas.errors import SchemaError

__all__ = [
    "CLUSTER",
    "DATE",
    "DOCUMENT",
    "DUPLICATE",
    "LEDGER",
    "RAW",
    "REDIRECT",
    "REFINED",
    "REJECT",
    "SHARD",
    "SIGNATURE",
    "TOMBSTONE",
    "VERDICT",
    "Table",
    "is_damage",
    "token_type",
]

DATE = pa.timestamp("ms", tz="UTC")
_ID16 = pa.binary(16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A named, versioned Arrow schema.

    Attributes:
        name: stands in the metadata of each file.
        version: (major, minor).
        columns: the columns that every file has; `extra` in `schema` adds those that a recipe decides
            (signals, token width).
    """

    name: str
    version: tuple[int, int]
    columns: pa.Schema

    def schema(self, *, extra: pa.Schema | None = None, metadata: Mapping[str, str] | None = None) -> pa.Schema:
        """The Arrow schema to write, with name, version and `metadata` (digests of settings) in its metadata."""
        fields = [*self.columns, *(extra or ())]
        version = ".".join(map(str, self.version))
        return pa.schema(fields, {"corpusmill.table": self.name, "corpusmill.version": version, **(metadata or {})})

    def check(self, schema: pa.Schema, where: str) -> None:
        """Refuse a file of another table or major version.

        Raises:
            SchemaError: naming the file, what it holds and what is read here.
        """
        metadata = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
        name = metadata.get("corpusmill.table", "no corpusmill table")
        version = metadata.get("corpusmill.version", "0.0")
        if name != self.name or int(version.split(".")[0]) != self.version[0]:
            expected = f"{self.name} {self.version[0]}.x"
            raise SchemaError(
                f"{where} holds {name} {version}, but {expected} is read here; "
                "use the corpusmill version that wrote it, or run the pipeline again"
            )


def _column(name: str, kind: pa.DataType, what: str, *, null: bool = False, unit: str | None = None) -> pa.Field:
    metadata = {"description": what} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=null, metadata=metadata)


_ID = _column("id", pa.string(), "xxh3_128 of source and record key, 32 hex digits")
_BINARY_ID = _column("id", _ID16, "xxh3_128 of source and record key")
_URL = _column("url", pa.string(), "address the record was fetched from", null=True)
_TITLE = _column("title", pa.string(), "title of the page", null=True)
_SOURCE = _column("source", pa.string(), "name of the source in the recipe")
_DATE = _column("date", DATE, "when the page was fetched or revised", null=True)
_FILE = _column("file_path", pa.string(), "input file, relative to the root of its source")
_OFFSET = _column("offset", pa.int64(), "start of the smallest slice that can be decoded alone", unit="bytes")
_LENGTH = _column("length", pa.int64(), "its length; null where there is no random access", null=True, unit="bytes")
_INDEX = _column("record_index", pa.int64(), "number of the record within that slice, from 0")
_LANGUAGE = _column("language", pa.string(), "BCP 47 tag, zh as zh-Hans or zh-Hant")
_SCORE = _column("language_score", pa.float64(), "probability of the language, 0 to 1")
_N_BYTES = _column("n_bytes", pa.int64(), "length of the text in UTF-8", unit="bytes")
_N_CHARS = _column("n_chars", pa.int64(), "length of the text", unit="code points")
_ROW = _column("row", pa.int64(), "row within the unit, from 0; jobs join by it")
_STAGE = _column("stage", pa.string(), "stage that decided", null=True)
_REASON = _column("reason", pa.string(), "machine-readable reason", null=True)
_CHARSET = _column("charset", pa.string(), "codec that the page was decoded with, by Python's name", null=True)
_TRUNCATED = _column("truncated", pa.string(), "why the crawler cut the page: length, time, disconnect", null=True)
_COMPONENT = _column("component", pa.string(), "smallest id of the raw component of duplicates")
_VALUE = _column("value", pa.float64(), "what was measured", null=True)
_THRESHOLD = _column("threshold", pa.float64(), "what it was compared with", null=True)

RAW = Table(
    name="raw",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _URL,
            _TITLE,
            _DATE,
            _FILE,
            _OFFSET,
            _LENGTH,
            _INDEX,
            _column("content", pa.large_binary(), "payload; null for a record without one", null=True),
            _column("media_type", pa.string(), "text/html, text/x-wiki or text/plain", null=True),
            _column("charset", pa.string(), "charset that the transport declares", null=True),
            _LANGUAGE.with_nullable(True),
            _REASON,
            _TRUNCATED,
            _column("redirect", pa.string(), "title of the page that a redirect leads to", null=True),
        ]
    ),
)
"""What a reader yields, in memory only: one row a record, those without a document with their `reason`."""

DOCUMENT = Table(
    name="document",
    version=(1, 1),
    columns=pa.schema(
        [
            _ID,
            _column("text", pa.string(), "extracted, normalised text"),
            _TITLE,
            _URL,
            _SOURCE,
            _DATE,
            _LANGUAGE,
            _SCORE,
            _FILE,
            _OFFSET,
            _LENGTH,
            _INDEX,
            _N_BYTES,
            _N_CHARS,
            _CHARSET,
            _TRUNCATED,
        ]
    ),
)

REJECT = Table(
    name="reject",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _URL,
            _FILE,
            _OFFSET,
            _LENGTH,
            _INDEX,
            _STAGE.with_nullable(False),
            _REASON.with_nullable(False),
        ]
    ),
)

REFINED = Table(
    name="refined",
    version=(1, 0),
    columns=pa.schema(
        [
            _BINARY_ID,
            _column("text", pa.string(), "edited text; null where the edits changed nothing", null=True),
            _column("refined", pa.bool_(), "false: the recipe does not keep this language, no signals"),
            _N_BYTES.with_nullable(True),
            _N_CHARS.with_nullable(True),
        ]
    ),
)
"""One row a document, in the same row groups; the columns of the raw signals follow."""

SIGNATURE = Table(
    name="signature",
    version=(1, 0),
    columns=pa.schema(
        [
            _BINARY_ID,
            _ROW,
            _column("text_key", _ID16, "xxh3_128 of the normalised text, digits kept", null=True),
            _column("url_key", _ID16, "xxh3_128 of the canonical URL", null=True),
            _LANGUAGE,
            _N_CHARS,
            _DATE,
        ]
    ),
)
"""`sig8` and `bands` follow where the recipe asks for near duplicates (see `pipeline.stages.signatures`)."""

VERDICT = Table(
    name="verdict",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _column("keep", pa.bool_(), "whether the rules keep the document"),
            _STAGE,
            _REASON,
            _VALUE,
            _THRESHOLD,
        ]
    ),
)

DUPLICATE = Table(
    name="duplicate",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _column("unit", pa.string(), "unit of the dropped document"),
            _ROW,
            _column("duplicate_of", pa.string(), "id of the document that it lost against"),
            _column("kind", pa.string(), "record, url, exact or near"),
            _column("jaccard", pa.float64(), "estimated from 8-bit signatures; near only", null=True),
            _COMPONENT,
        ]
    ),
)

CLUSTER = Table(
    name="cluster",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _column("unit", pa.string(), "unit of the surviving document"),
            _ROW,
            _COMPONENT,
            _column("cluster_size", pa.int64(), "1 + documents that ended at this one"),
        ]
    ),
)
"""One row a survivor that has company in its raw component; all others are alone: component = id, size 1."""

REDIRECT = Table(
    name="redirect",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _SOURCE,
            _URL,
            _TITLE.with_nullable(False),
            _column("redirect", pa.string(), "title of the page that this one leads to"),
        ]
    ),
)
"""Redirects of a wiki, where the recipe asks for them (`redirects: true`)."""

LEDGER = Table(
    name="ledger",
    version=(1, 1),
    columns=pa.schema(
        [
            _ID,
            _URL,
            _FILE,
            _OFFSET,
            _LENGTH,
            _INDEX,
            _column("verdict", pa.string(), "kept, dropped or damaged"),
            _STAGE,
            _REASON,
            _VALUE,
            _THRESHOLD,
            _LANGUAGE.with_nullable(True),
        ]
    ),
)

SHARD = Table(
    name="shard",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _column("n_tokens", pa.int64(), "length of input_ids", unit="tokens"),
            _N_BYTES,
            _URL,
            _SOURCE,
            _DATE,
            _LANGUAGE,
            _SCORE,
            _column("cluster_size", pa.int64(), "1 + duplicates that this document stands for"),
            _FILE,
            _OFFSET,
            _INDEX,
            _column("quality", pa.float64(), "the signal that the recipe ranks by", null=True),
        ]
    ),
)
"""`input_ids` (the text only, no BOS or EOS) comes first among the extra columns, then `text` if wanted."""

TOMBSTONE = Table(
    name="tombstone",
    version=(1, 0),
    columns=pa.schema(
        [
            _ID,
            _column("shard", pa.string(), "name of the shard in the manifest"),
            _ROW,
            _column("time", DATE, "when it was forgotten"),
            _column("reason", pa.string(), "who asked, or why"),
        ]
    ),
)


def token_type(vocab_size: int) -> pa.DataType:
    """Arrow type of one token id: uint16 up to 65,536 entries, uint32 above."""
    return pa.uint16() if vocab_size <= 1 << 16 else pa.uint32()


_DAMAGE = pa.array(["bomb", "too_deep", "too_large"])


def is_damage(reasons: pa.Array) -> pa.BooleanArray:
    """Which reasons say that a record cannot be read, as against need not: `damaged…`, `bomb`, and what is over limits.

    Args:
        reasons: string, shape (n,).

    Returns:
        bool, shape (n,); false where the reason is null.
    """
    return pc.fill_null(pc.or_(pc.starts_with(reasons, "damaged"), pc.is_in(reasons, _DAMAGE)), False)
