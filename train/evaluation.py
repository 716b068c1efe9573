"""Bits per byte of a model on a dataset's documents, in all and by language and source (DESIGN §6).

Bits per byte of a group are the nats of all its text tokens / (ln 2 x bytes of its UTF-8 text), so models with
different tokenizers compare. Each document is scored once, whole, after one <eos> and alone in its row.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["COLUMNS", "Evaluation", "Score", "evaluate", "print_evaluation", "windows"]

COLUMNS = ("input_ids", "n_bytes", "language", "source")
"""Of the shard table: what `evaluate` reads."""

_IGNORE = -100
_POOL = 32
"""Batches whose windows are sorted by length together."""


@dataclass(kw_only=True, slots=True)
class Score:
    """Sums over documents, and what follows from them; a mean over nothing is nan.

    Attributes:
        n_documents: documents.
        n_tokens: text tokens, each predicted once; the <eos> after a document is not scored.
        n_bytes: UTF-8 bytes of the texts.
        n_correct: tokens that were the model's most probable.
        nats: sum of -ln p(token).
    """

    n_documents: int = 0
    n_tokens: int = 0
    n_bytes: int = 0
    n_correct: int = 0
    nats: float = 0.0

    def add(self, other: "Score") -> None:
        """Count the documents of `other` too."""
        self.n_documents += other.n_documents
        self.n_tokens += other.n_tokens
        self.n_bytes += other.n_bytes
        self.n_correct += other.n_correct
        self.nats += other.nats

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.n_tokens if self.n_tokens else math.nan

    @property
    def perplexity(self) -> float:
        """E to the loss, inf where that is beyond a double."""
        return math.exp(self.loss) if not self.loss > 709 else math.inf

    @property
    def accuracy(self) -> float:
        """Share of the tokens that were the model's most probable, 0 to 1."""
        return self.n_correct / self.n_tokens if self.n_tokens else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of text."""
        return self.nats / (math.log(2) * self.n_bytes) if self.n_bytes else math.nan

    def to_json(self) -> dict[str, Any]:
        """Sums and means; null for a number that is not finite, which JSON cannot say."""
        values = {
            "n_documents": self.n_documents,
            "n_tokens": self.n_tokens,
            "n_bytes": self.n_bytes,
            "nats": self.nats,
            "bits_per_byte": self.bits_per_byte,
            "loss": self.loss,
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(kw_only=True, slots=True)
class Evaluation:
    """Scores of all documents, and of those of each language (BCP 47) and each source."""

    total: Score = field(default_factory=Score)
    languages: dict[str, Score] = field(default_factory=dict)
    sources: dict[str, Score] = field(default_factory=dict)

    def add(self, other: "Evaluation") -> None:
        """Count the documents of `other` too, such as those that another process scored."""
        self.total.add(other.total)
        for mine, theirs in ((self.languages, other.languages), (self.sources, other.sources)):
            for name, score in theirs.items():
                mine.setdefault(name, Score()).add(score)

    def to_json(self) -> dict[str, Any]:
        """What `json.dumps` takes; groups in the order of their names."""
        return {
            "total": self.total.to_json(),
            "languages": {name: score.to_json() for name, score in sorted(self.languages.items())},
            "sources": {name: score.to_json() for name, score in sorted(self.sources.items())},
        }


@dataclass(kw_only=True, slots=True)
class _Window:
    """A row to score: `tokens` are inputs and, shifted by one, targets, the first `n_known` of them scored before."""

    groups: tuple[Score, ...]
    tokens: NDArray[np.int64]
    n_known: int
    nats: float = 0.0
    n_correct: int = 0

    @property
    def n_inputs(self) -> int:
        return len(self.tokens) - 1

    @property
    def n_new(self) -> int:
        return self.n_inputs - self.n_known


def windows(n_tokens: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Rows that score each token of a document once, with at least `length` / 2 tokens before it where they exist.

    Args:
        n_tokens: of the document, without the <eos> before it.
        length: most inputs a row has.

    Yields:
        (start, end, done): the inputs are start … end - 1, counted from the <eos>, the targets the tokens
        start … end - 1 of the document; those before `done` were scored by earlier rows.
    """
    start = done = 0
    while done < n_tokens:
        end = min(start + length, n_tokens)
        yield start, end, done
        done = end
        start += (length + 1) // 2


def evaluate(
    model: Callable[[Tensor], Tensor],
    documents: Iterable[pa.RecordBatch],
    *,
    sequence_length: int,
    eos: int,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    batch_tokens: int = 4096,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score a model on documents.

    A document that is longer than `sequence_length` is read by windows of that length and half the stride, of which
    only new tokens count. Rows are batched by length and padded on the right, which a causal model cannot see. A
    token's nats are those of the model's logits in fp32 at least; sums are in fp64 and in the order of the documents,
    so the size of the batches changes nothing but the rounding inside the model.

    Args:
        model: ids int64[B, T] on `device` to logits[B, T, V].
        documents: batches with `COLUMNS`; input_ids are lists of integers, the text only.
        sequence_length: most tokens a row, <eos> included.
        eos: id of the token before each document.
        device: of the ids.
        autocast: run the model under autocast to this type; None: as it is.
        batch_tokens: positions a batch, padding included; the logits of one batch are in memory at once.
        progress: called after each batch with the number of tokens that it scored.
    """
    device = torch.device(device)
    result = Evaluation()
    for pool in _pools(documents, result, sequence_length, eos, _POOL * batch_tokens):
        for batch in _batches(pool, batch_tokens):
            ids, targets = _pad(batch, eos)
            with torch.no_grad(), torch.autocast(device.type, autocast, enabled=autocast is not None):
                logits = model(ids.to(device))
            for window, nats, n_correct in zip(batch, *_score(logits, targets.to(device)), strict=True):
                window.nats, window.n_correct = nats, n_correct
            if progress is not None:
                progress(sum(window.n_new for window in batch))
        for window in pool:
            for group in window.groups:
                group.n_tokens += window.n_new
                group.n_correct += window.n_correct
                group.nats += window.nats
    return result


def _pools(
    batches: Iterable[pa.RecordBatch], result: Evaluation, length: int, eos: int, n_inputs: int
) -> Iterator[list[_Window]]:
    """Count the documents in `result` and cut them into windows, listed until they have `n_inputs`."""
    pool: list[_Window] = []
    n_pooled = 0
    for tokens, n_bytes, language, source in _documents(batches, eos):
        groups = (
            result.total,
            result.languages.setdefault(language, Score()),
            result.sources.setdefault(source, Score()),
        )
        for group in groups:
            group.n_documents += 1
            group.n_bytes += n_bytes
        for start, end, done in windows(len(tokens) - 1, length):
            pool.append(_Window(groups=groups, tokens=tokens[start : end + 1], n_known=done - start))
            n_pooled += end - start
        if n_pooled >= n_inputs:
            yield pool
            pool, n_pooled = [], 0
    yield pool


def _documents(batches: Iterable[pa.RecordBatch], eos: int) -> Iterator[tuple[NDArray[np.int64], int, str, str]]:
    """<eos> and tokens (int64[n + 1]), bytes, language and source of each document."""
    for batch in batches:
        ids = batch.column("input_ids")
        ends = np.cumsum(ids.value_lengths().to_numpy(zero_copy_only=False))
        texts = np.split(ids.flatten().to_numpy().astype(np.int64), ends[:-1]) if len(ids) else []
        others = (batch.column(name).to_pylist() for name in COLUMNS[1:])
        for text, n_bytes, language, source in zip(texts, *others, strict=True):
            yield np.insert(text, 0, eos), n_bytes, language, source


def _batches(pool: Sequence[_Window], n_positions: int) -> Iterator[list[_Window]]:
    """The windows by length, the longest first, as many together as fit; one that is too long is alone."""
    batch: list[_Window] = []
    for window in sorted(pool, key=lambda window: -window.n_inputs):
        if batch and (len(batch) + 1) * batch[0].n_inputs > n_positions:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _pad(batch: Sequence[_Window], eos: int) -> tuple[Tensor, Tensor]:
    """Inputs, and targets with `_IGNORE` where nothing is counted: int64[B, T] each."""
    shape = (len(batch), max(window.n_inputs for window in batch))
    ids, targets = torch.full(shape, eos), torch.full(shape, _IGNORE)
    for row, window in enumerate(batch):
        tokens = torch.from_numpy(window.tokens)
        ids[row, : window.n_inputs] = tokens[:-1]
        targets[row, window.n_known : window.n_inputs] = tokens[1 + window.n_known :]
    return ids, targets


def _score(logits: Tensor, targets: Tensor) -> tuple[list[float], list[int]]:
    """Nats of the targets of each row, and how many of them have the largest logit, the first of equal ones."""
    counted = targets != _IGNORE
    rows = counted.nonzero()[:, 0].cpu()
    logits, targets = logits[counted], targets[counted]
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    nats = F.cross_entropy(logits, targets, reduction="none").cpu().double()
    correct = (logits.argmax(-1) == targets).cpu()
    n_rows = len(counted)
    return (
        torch.bincount(rows, nats, minlength=n_rows).tolist(),
        torch.bincount(rows[correct], minlength=n_rows).tolist(),
    )


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """A table of all documents, each language and each source."""
    table = Table("", "documents", "tokens", "bytes", "bits/byte", "loss", "perplexity", "accuracy", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    _add_row(table, "all", evaluation.total)
    for groups in (evaluation.languages, evaluation.sources):
        table.add_section()
        for name, score in sorted(groups.items()):
            _add_row(table, name, score)
    console.print(table)


def _add_row(table: Table, name: str, score: Score) -> None:
    table.add_row(
        Text(name),
        f"{score.n_documents:,}",
        f"{score.n_tokens:,}",
        f"{score.n_bytes:,}",
        f"{score.bits_per_byte:.4f}",
        f"{score.loss:.4f}",
        f"{score.perplexity:,.2f}",
        f"{score.accuracy:.1%}",
    )
