"""Who is dropped, and for whom: the cascade inside each raw component.

Steps run in the order record, url, exact, near; losers of a step take no part in later ones. Near-duplicates
are found by leader clustering: documents are walked from best to worst, and one is dropped only if it is
similar to a document already kept, never because both are similar to a third. Dropping whole components
instead was measured to be wrong (similarity to the survivor under .7) for 8-13 % of its victims, and to
keep 1 of 31 versions of a drifting page.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpusmill.pipeline.dedup import kernels
from corpusmill.pipeline.dedup.keys import byte_rows, halves, heads

UrlPolicy = Literal["newest", "oldest", "longest", "none"]
KINDS = ("record", "url", "exact", "near")
"""Why a document is dropped, in the order of the steps."""

_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadePolicy:
    """Which steps run; records of one id are always reduced to the first.

    Attributes:
        url: of several fetches of an address, keep the newest, the oldest or the longest (most characters);
            "none" keeps all.
        exact: drop exact duplicates.
        near: 0-1, least estimated Jaccard similarity of near-duplicates; None keeps all.
    """

    url: UrlPolicy = "newest"
    exact: bool = True
    near: float | None = 0.75

    def __post_init__(self) -> None:
        if self.url not in get_args(UrlPolicy):
            raise ValueError(f"url is {self.url!r}, expected one of {', '.join(get_args(UrlPolicy))}")
        if self.near is not None and not 0 <= self.near <= 1:
            raise ValueError(f"near is {self.near}, expected 0 to 1 or None")


def resolve(members: pa.Table, policy: CascadePolicy) -> pa.Table:
    """Runs the cascade over all members of raw components.

    Better means: higher quality (null lowest), then more characters, smaller source priority, earlier date
    (null last), smaller id, smaller document number. It is a total order, so the result does not depend on
    the order of the rows. A record step's first is the smallest document number.

    Args:
        members: one row a document: `doc` (uint64), `component` (uint64), `id`, `url_key`, `text_key`
            (fixed_size_binary(16), the keys nullable), `sig8` (fixed_size_binary(K), null without shingles),
            `quality` (float64, nullable), `n_chars` (int64), `priority` (int32), `date` (timestamp,
            nullable).
        policy: which steps run.

    Returns:
        One row a document, sorted by `doc`: `doc` (uint64), `duplicate_of` (uint64, the document that beat
        it, null if it survives), `kind` (string: record, url, exact, near, or null), `jaccard` (float64,
        near only), `survivor` (uint64, where the chain of winners ends), `cluster_size` (int64, on
        survivors: 1 + the documents that end at it).

    Raises:
        ValueError: a document number occurs twice.
    """
    cascade = _Cascade(members)
    cascade.same_key("id", "record", cascade.doc)
    if policy.url == "longest":
        cascade.same_key("url_key", "url", -cascade.n_chars, cascade.rank)
    elif policy.url == "oldest":
        cascade.same_key("url_key", "url", cascade.dates(null=_LAST), cascade.rank)
    elif policy.url == "newest":
        cascade.same_key("url_key", "url", -cascade.dates(null=-_LAST), cascade.rank)
    if policy.exact:
        cascade.same_key("text_key", "exact", cascade.rank)
    if policy.near is not None:
        cascade.near(policy.near)
    return cascade.result()


class _Cascade:
    """The members as arrays in document order, and what the steps decided so far."""

    def __init__(self, members: pa.Table) -> None:
        doc = members["doc"].to_numpy()
        self.members = members.sort_by("doc") if (doc[1:] < doc[:-1]).any() else members
        self.doc = self.members["doc"].to_numpy()
        if (self.doc[1:] == self.doc[:-1]).any():
            raise ValueError("members hold a document number twice")
        self.component = self.members["component"].to_numpy()
        self.n_chars = self.members["n_chars"].to_numpy()
        self.rank = self._rank()
        self.winner = np.arange(self.doc.size)  # row of the document that beat each; its own while it remains
        self.kind = np.full(self.doc.size, -1, np.int8)  # position in KINDS, -1 for a survivor
        self.jaccard = np.full(self.doc.size, np.nan)

    def column(self, name: str) -> pa.Array:
        return self.members[name].combine_chunks()

    def dates(self, null: int) -> NDArray[np.int64]:
        """Dates as integers of their own unit, nulls as `null`."""
        dates: NDArray[np.int64] = pc.fill_null(self.column("date").cast(pa.int64()), null).to_numpy()
        return dates

    def _rank(self) -> NDArray[np.intp]:
        """Each document's place in the total order, 0 the best."""
        quality = pc.fill_null(self.column("quality"), -np.inf).to_numpy()
        quality = np.where(np.isnan(quality), -np.inf, quality)
        hi, lo = halves(self.column("id"))
        priority = self.members["priority"].to_numpy()
        order = np.lexsort((self.doc, lo, hi, self.dates(null=_LAST), priority, -self.n_chars, -quality))
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return rank

    def _remaining(self, valid: pa.Array) -> NDArray[np.intp]:
        """Rows of the documents that no step has dropped and whose value is not null."""
        not_null = valid.is_valid().to_numpy(zero_copy_only=False)
        return np.flatnonzero((self.winner == np.arange(self.doc.size)) & not_null)

    def same_key(self, column: str, kind: str, *order: NDArray) -> None:
        """Of the remaining documents of a component and a key, all but the first by `order` are dropped."""
        keys = self.column(column)
        hi, lo = halves(keys)
        rows = self._remaining(keys)
        first = rows[heads([self.component[rows], hi[rows], lo[rows]], [by[rows] for by in order])]
        loses = first != rows
        self.winner[rows[loses]] = first[loses]
        self.kind[rows[loses]] = KINDS.index(kind)

    def near(self, threshold: float) -> None:
        """Leader clustering of the remaining documents of each component."""
        sig8 = self.column("sig8")
        width = sig8.type.byte_width
        shares = np.array([round((width - unequal) / width, 6) for unequal in range(width + 1)])
        most = int(np.count_nonzero(shares >= threshold)) - 1  # unequal bytes; rounded as it is stored, then compared
        rows = self._remaining(sig8)
        rows = rows[np.lexsort((self.rank[rows], self.component[rows]))]
        _, sizes = np.unique(self.component[rows], return_counts=True)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        words = _words(byte_rows(sig8)[rows])
        leaders, unequal = np.empty(rows.size, np.int64), np.empty(rows.size, np.int64)
        kernels.follow_leaders(words, bounds, most, min(most // 8 + 1, words.shape[1], 31), leaders, unequal)
        loses = leaders != np.arange(rows.size)
        self.winner[rows[loses]] = rows[leaders[loses]]
        self.kind[rows[loses]] = KINDS.index("near")
        self.jaccard[rows[loses]] = shares[unequal[loses]]

    def result(self) -> pa.Table:
        survives = self.winner == np.arange(self.doc.size)
        survivor = self.winner
        while (survivor[survivor] != survivor).any():
            survivor = survivor[survivor]
        cluster_size = np.bincount(survivor, minlength=self.doc.size)
        return pa.table(
            {
                "doc": self.doc,
                "duplicate_of": pa.array(self.doc[self.winner], mask=survives),
                "kind": pa.array(KINDS).take(pa.array(self.kind, mask=survives)),
                "jaccard": pa.array(self.jaccard, mask=np.isnan(self.jaccard)),
                "survivor": self.doc[survivor],
                "cluster_size": pa.array(cluster_size, pa.int64(), mask=~survives),
            }
        )


def _words(values: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Rows of bytes as rows of 64-bit words; what is missing of the last is zero."""
    padded = np.zeros((len(values), -(-values.shape[1] // 8) * 8), np.uint8)
    padded[:, : values.shape[1]] = values
    return padded.view(np.uint64)
