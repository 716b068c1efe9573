#!/usr/bin/env python3
"""Signing documents: our kernel beside datasketch fed by Python, and beside datatrove's signature step.

    python bench/signing.py                     ours and datasketch
    python bench/signing.py --peer PYTHON       and datatrove, in an environment made as bench/peer_signing.py says
    python bench/signing.py --data FOLDER       the folder of real inputs that holds crawl/

Contestants take turns on the same pages in one language. Ours turn texts into all that a run stores of them: signatures
of 160 places, their low bytes, band keys. datasketch makes as many places by the same scheme of the same shingles, that
plain Python cuts well: one `str.translate` by our table, `split`, the set of 5-grams. It hashes them by SHA-1, its
default, or by xxh32. Speeds are bytes of UTF-8 a second.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

import pyarrow as pa
import xxhash
from crawl import crawl_texts
from datasketch import MinHash
from timing import Run, interleaved, speed, speedup, timed

from corpusmill.pipeline.stages.minhash import SEPARATOR, SKIP, SOLO
from corpusmill.pipeline.stages.shingles import character_table
from corpusmill.pipeline.stages.signatures import MinHashSettings, band_keys, sig8_column, signatures

__all__ = ["DEMANDS", "LANGUAGES", "datatrove", "pages", "race"]

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = {"en": ("en",), "zh": ("zh-Hans", "zh-Hant")}
DEMANDS = {"datasketch": 50.0, "datatrove": 300.0}
"""How many times as fast as each peer ours has to be."""

_SETTINGS = MinHashSettings()
_TIMES = 20
"""Of all pages in one turn of ours, which would be over in milliseconds otherwise."""


def pages(data: Path, language: str, count: int) -> list[str]:
    """The texts of the first pages of the crawl in a language, at most `count`."""
    tags = LANGUAGES[language]
    return list(itertools.islice((text for tag, text in crawl_texts(data) if tag in tags), count))


def _sign(column: pa.Array) -> None:
    matrix = signatures(column, _SETTINGS)
    sig8_column(matrix)
    band_keys(matrix, _SETTINGS)


@cache
def _translation() -> dict[int, str | None]:
    """Our rule as `str.translate` takes it: tokens come out with spaces around."""
    return {code: _translated(entry) for code, entry in enumerate(character_table().shingle.tolist())}


def _translated(entry: int) -> str | None:
    if entry in (SKIP, SEPARATOR):
        return None if entry == SKIP else " "
    char = chr(entry % SKIP)
    return f" {char} " if entry & SOLO else char


def _shingles(text: str) -> set[bytes]:
    tokens = text.translate(_translation()).split()
    n = _SETTINGS.ngram
    return {" ".join(tokens[i : i + n]).encode() for i in range(max(len(tokens) - n, 0) + 1)}


def _sketch(texts: Sequence[str], hashfunc: Callable[[bytes], int] | None) -> None:
    permutations = MinHash(_SETTINGS.n_permutations, scheme="affine32").permutations
    for text in texts:
        sketch = MinHash(_SETTINGS.n_permutations, permutations=permutations, scheme="affine32", hashfunc=hashfunc)
        sketch.update_batch(_shingles(text))


@contextmanager
def datatrove(python: str, language: str, texts: Sequence[str]) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Starts datatrove in another environment: yields its version, and what lets it sign all the texts once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        command = [python, str(ROOT / "bench" / "peer_signing.py"), language, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            requests, answers = process.stdin, process.stdout

            def answer() -> dict:
                line = answers.readline()
                if not line:
                    raise RuntimeError(f"{' '.join(command[:3])} ended with {process.wait()}")
                return json.loads(line)

            def turn() -> Run:
                requests.write("\n")
                requests.flush()
                return Run(**answer())

            yield str(answer()["version"]), turn
            requests.close()


def race(texts: Sequence[str], repeat: int, others: Mapping[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    """Let ours, datasketch and others sign the texts by turns; their `tokens` are bytes."""
    n_bytes = sum(len(text.encode()) for text in texts)
    column = pa.array(texts, pa.string())

    def times(work: Callable[[], None], n: int) -> int:
        for _ in itertools.repeat(None, n):
            work()
        return n * n_bytes

    contestants = {
        "ours": partial(times, partial(_sign, column), _TIMES),
        "datasketch": partial(times, partial(_sketch, texts, None), 1),
        "datasketch, xxh32": partial(times, partial(_sketch, texts, xxhash.xxh32_intdigest), 1),
    }
    return interleaved({name: partial(timed, work) for name, work in contestants.items()} | dict(others), repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="of an environment that has datatrove")
    parser.add_argument("--pages", type=int, default=300, help="in each language")
    parser.add_argument("--repeat", type=int, default=5, help="turns of each contestant")
    default = Path(os.environ.get("CORPUSMILL_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="default: $CORPUSMILL_DATA, or ../shared/data")
    args = parser.parse_args()
    if not (args.data / "crawl").is_dir():
        sys.exit(f"bench/signing.py: no real inputs at {args.data}: give the folder that holds crawl/ as --data")
    failed = False
    for language in LANGUAGES:
        texts = pages(args.data, language, args.pages)
        with datatrove(args.peer, language, texts) if args.peer else nullcontext() as peer:
            runs = race(texts, args.repeat, {"datatrove": peer[1]} if peer else {})
        print(f"{language}: {len(texts)} pages of {runs['ours'][0].tokens / _TIMES / len(texts) / 1e3:.1f} kB")
        for name, turns in runs.items():
            print(f"  {name:20} {speed(turns, 'cpu_s') / 1e6:9.2f} MB/s", end="")
            if name in DEMANDS:
                ratio = speedup(runs["ours"], turns, "cpu_s")
                failed |= ratio < DEMANDS[name]
                print(f"   ours is {ratio:.0f}x as fast, demanded {DEMANDS[name]:.0f}x", end="")
            print()
    sys.exit(failed)


if __name__ == "__main__":
    main()
