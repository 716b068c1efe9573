"""tokenizer: byte-level BPE trained on a hash sample of the train split, or a given file, checked and taken over."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.pipeline.jobs.survivors import read_survivors
from corpusmill.schemas.errors import CorpusmillError, RecipeError
from corpusmill.schemas.files import Files
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json, special_ids

__all__ = ["TOKENIZER", "TokenizerJob", "check_tokenizer_file", "train_bpe"]

STAGE_VERSION = 1
LIBRARIES = ("tokenizers", "xxhash")
TOKENIZER = "tokenizer/tokenizer.json"

_LONG_RUN = re.compile(r"[^\W\d_]{256}|\d{256}|\s{256}|[^\w\s]{256}|_{256}")


def train_bpe(texts: Iterator[str], vocab_size: int) -> bytes:
    """Train a lossless byte-level BPE (GPT-2 pre-tokenisation, no prefix space, no normalisation).

    Args:
        texts: what to learn from; the result depends on the multiset of texts, not on their order.
        vocab_size: entries, the special tokens (ids from 0) and the 256 bytes included.

    Returns:
        The tokenizer.json.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
    return (tokenizer.to_str(pretty=False) + "\n").encode()


def _pieces(text: str) -> Iterator[str]:
    """Cut a text inside runs of one kind that are longer than any word: training is quadratic in their length."""
    start = 0
    for run in _LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]


def check_tokenizer_file(recipe: Recipe) -> None:
    """Refuse a given tokenizer that cannot work, before anything starts.

    Raises:
        RecipeError: no such file, not a tokenizer.json, or no such eos token.
    """
    if recipe.tokenizer.path is None:
        return
    path = Path(recipe.tokenizer.path)
    try:
        tokenizer = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecipeError(f"tokenizer.path: {str(path)!r}: {error}; give a tokenizer.json") from error
    if recipe.tokenizer.eos not in special_ids(tokenizer):
        known = ", ".join(list(special_ids(tokenizer))[:12]) or "none"
        raise RecipeError(
            f"tokenizer.eos: {recipe.tokenizer.eos!r} is not a special token of {path.name}; "
            f"set tokenizer.eos to the one that ends a document, of: {known}"
        )


class TokenizerJob:
    """One task in all; `tokenizer/tokenizer.json`. The commit's detail holds its sha256, size and special ids."""

    name = "tokenizer"
    heavy = False
    folders: tuple[str, ...] = ("tokenizer",)

    def tasks(self, run: RunState) -> list[Task]:
        """The one task, on top of the survivors of all units unless the file is given."""
        choice = run.recipe.tokenizer
        if choice.path is not None:
            data = Path(choice.path).read_bytes()
            mark = fingerprint(self.name, STAGE_VERSION, choice.eos, hashlib.sha256(data).hexdigest())
            spec: dict[str, Any] = {"json": data.decode(), "eos": choice.eos}
            return [Task(job=self.name, unit="tokenizer", fingerprint=mark, spec=spec)]
        assert choice.train is not None
        jobs = ("extract", "refine", "dedup")
        units = list(run.commits["extract"])
        inputs = [[run.commits[job][unit].digest for job in jobs] for unit in units]
        sizes = {unit: run.commits["dedup"][unit].detail["survivors"].get("train", []) for unit in units}
        values = choice.train.model_dump()
        spec = {
            "train": values,
            "groups": {unit: [g for g, size in enumerate(groups) if size] for unit, groups in sizes.items()},
            "total_bytes": sum(sum(groups) for groups in sizes.values()),
            "splits": run.recipe.shards.splits,
            "eos": choice.eos,
        }
        mark = fingerprint(self.name, STAGE_VERSION, [values, run.recipe.shards.splits], inputs, LIBRARIES)
        cost = min(spec["total_bytes"], choice.train.max_bytes) * 0.5e-6
        return [Task(job=self.name, unit="tokenizer", fingerprint=mark, spec=spec, cost=cost)]

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Train or take over, commit.

        Raises:
            CorpusmillError: the text is too little for the vocabulary asked for.
        """
        spec = task.spec
        counts = {"documents": 0, "bytes": 0}
        if "json" in spec:
            data = spec["json"].encode()
        else:
            with watch("train"):
                data = train_bpe(_sample(spec, files, counts), spec["train"]["vocab_size"])
        tokenizer = from_json(data)
        size = tokenizer.get_vocab_size()
        if "json" not in spec and counts["documents"] and size < len(SPECIAL_TOKENS) + 256:
            raise CorpusmillError(f"the trained tokenizer has {size} entries only")
        detail = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "vocab_size": max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
            "special_ids": special_ids(tokenizer),
            "eos": spec["eos"],
        }
        with outputs(files, self.name, task.unit, watch) as out:
            out.blob(TOKENIZER, data)
            out.commit(task.fingerprint, counts, detail)


def _sample(spec: dict[str, Any], files: Files, counts: dict[str, int]) -> Iterator[str]:
    """Train survivors whose id hashes below a share of the range, in plan order, up to the cap."""
    limit = spec["train"]["max_bytes"]
    share = min(1.0, limit / max(1, spec["total_bytes"]))
    for unit, groups in spec["groups"].items():
        for group in groups:
            table = read_survivors(files, unit, [group], "train", spec["splits"], ["id", "text", "n_bytes"])
            points = np.array(
                [xxhash.xxh3_64_intdigest(b"sample" + i.encode()) for i in table.column("id").to_pylist()], np.float64
            )
            chosen = table.filter(pa.array(points < share * 2.0**64))
            for text, n_bytes in zip(
                chosen.column("text").to_pylist(), chosen.column("n_bytes").to_pylist(), strict=True
            ):
                if counts["bytes"] + n_bytes > limit:
                    return
                counts["documents"] += 1
                counts["bytes"] += n_bytes
                yield text
