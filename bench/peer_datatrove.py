#!/usr/bin/env python3
r"""The path of `recipes/web.yaml` through datatrove 0.10.1: WARC files to deduplicated, tokenized documents.

    python3 -m venv ~/venvs/datatrove
    ~/venvs/datatrove/bin/pip install 'datatrove[processing]==0.10.1' 'xxhash<4' \
        warcio faust-cchardet python-magic orjson spacy jieba lxml_html_clean
    ~/venvs/datatrove/bin/python bench/peer_datatrove.py OUT_FOLDER WORKERS TOKENIZER_JSON WARC...

The packages after xxhash are what this path needs of datatrove's extras [io] and [multilingual]; the latter as a whole
brings TensorFlow and torch. xxhash 4 refuses the str that datatrove hashes; trafilatura 1.11 needs lxml_html_clean
beside a recent lxml; python-magic needs the system's libmagic.

Steps and settings are datatrove's defaults, which are FineWeb's (examples/fineweb.py of datatrove), except:

- Languages are labelled, all are kept. The model is the compressed lid.176.ftz that lies in this repository, where
  datatrove would download lid.176.bin; it reads the whole text and scores all 176 languages, as datatrove does.
- Chinese is cut into words by spaCy and jieba and filtered with the thresholds that FineWeb2 fitted to those words
  (configs/cmn_Hani.yml and fineweb-2-pipeline.py of huggingface/fineweb-2).
- The other languages are all cut by spaCy's English rules. Gopher's word length and stop word rules are left out for
  them, as in our preset `gopher`: the numbers are English, and the stop words would drop nearly all of these pages.
- The C4, FineWeb and URL filters are left out, and so are files of dropped documents: our recipe has none of them.
- One MinHash pass serves all languages, each document shingled in the words of its own, where FineWeb2 runs the four
  stages once a language; and survivors go to the tokenizer without another file in between. Both save datatrove time.

A task is a file: datatrove cannot split one. OUT_FOLDER must not exist; counts.json in it gets the documents left after
each step, the tokens (one `<eos>` a document included) and the pages lost to the extraction timeout of 1 s.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.data import Document, DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter, LanguageFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.lid import FT176LID
from datatrove.utils.stats import PipelineStats
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import load_word_tokenizer

LID_MODEL = Path(__file__).resolve().parent.parent / "pipeline" / "data" / "lid.176.ftz"
MINHASH = MinhashConfig()  # 14 buckets of 8 hashes over 5-grams of words
CHINESE_REPETITION = {
    "dup_line_frac": 0.287,
    "dup_para_frac": None,
    "dup_line_char_frac": None,
    "dup_para_char_frac": None,
    "top_n_grams": ((2, 0.256), (3, 0.201), (4, 0.171)),
    "dup_n_grams": ((5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.14), (10, 0.127)),
}
CHINESE_QUALITY = {
    "min_avg_word_length": 1,
    "max_avg_word_length": 5,
    "max_non_alpha_words_ratio": 0.735,  # datatrove's name; it is the least share of words with a letter
    "stop_words": list("的年在月是和日了於·為有被人中为他與後也而由"),
}
NO_ENGLISH_RULES = {"min_avg_word_length": None, "max_avg_word_length": None, "min_stop_words": None}


class PreloadedTrafilatura(Trafilatura):
    """Loads trafilatura before the sandbox forks.

    The sandbox's start falls under the timeout of a page, the import too: on a busy machine pages would be lost to it.
    """

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Extracts."""
        import trafilatura  # noqa: F401

        yield from super().run(data, rank, world_size)


class LocalLID(FT176LID):
    """The fastText model of 176 languages from this repository, not from the network."""

    @property
    def model(self) -> Any:
        """Loaded at the first document, in the process that uses it."""
        if self._model is None:
            from fasttext.FastText import _FastText

            self._model = _FastText(str(LID_MODEL))
        return self._model


class FilterByLanguage(BaseFilter):
    """Sends each document to the filter of its language."""

    def __init__(self, name: str, filters: dict[str, BaseFilter], other: BaseFilter) -> None:
        self.name = name
        super().__init__()
        self.filters, self.other = filters, other

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, or false and the reason."""
        return self.filters.get(doc.metadata["language"], self.other).filter(doc)


class SignatureByLanguage(MinhashDedupSignature):
    """Shingles each document in words of its language."""

    def __init__(self, output_folder: str) -> None:
        super().__init__(output_folder, config=MINHASH)
        self.word_tokenizer = None  # the executor copies its steps, and a spaCy tokenizer once used cannot be copied

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        """Writes the signatures of a task."""
        super().run(self._choose_words(data), rank, world_size)

    def _choose_words(self, data: DocumentsPipeline) -> Iterator[Document]:
        tokenizers = {"zh": load_word_tokenizer(Languages.mandarin_chinese)}
        other = load_word_tokenizer(Languages.english)
        for doc in data:
            self.word_tokenizer = tokenizers.get(doc.metadata["language"], other)
            yield doc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER")
    parser.add_argument("workers", type=int, metavar="WORKERS")
    parser.add_argument("tokenizer", type=Path, metavar="TOKENIZER_JSON")
    parser.add_argument("warcs", type=Path, nargs="+", metavar="WARC")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    counts = run(args.out.resolve(), args.workers, args.tokenizer, args.warcs)
    (args.out / "counts.json").write_text(json.dumps(counts, indent=1) + "\n")


def run(out: Path, workers: int, tokenizer: Path, warcs: list[Path]) -> dict[str, int]:
    """All stages, one after the other.

    Returns:
        The documents left after each step, tokens and extraction timeouts.
    """
    paths = out / "paths.txt"
    paths.write_text("".join(f"{warc.resolve().relative_to('/')}\n" for warc in warcs))

    def stage(name: str, n_tasks: int, steps: list[PipelineStep]) -> PipelineStats:
        return LocalPipelineExecutor(
            steps,
            tasks=n_tasks,
            workers=min(workers, n_tasks),
            logging_dir=str(out / "logs" / name),
            start_method="fork",  # nobody waits for the default's fork server: rusage would miss the workers' CPU time
        ).run()

    languages = LanguageFilter(label_only=True)
    languages.model = LocalLID()
    documents, signatures, buckets, removed = (str(out / f) for f in ("documents", "signatures", "buckets", "removed"))
    chinese = Languages.mandarin_chinese
    base = stage(
        "base",
        len(warcs),
        [
            WarcReader("/", paths_file=str(paths)),
            PreloadedTrafilatura(favour_precision=True),
            languages,
            FilterByLanguage(
                "repetition",
                {"zh": GopherRepetitionFilter(language=chinese, **CHINESE_REPETITION)},
                GopherRepetitionFilter(),
            ),
            FilterByLanguage(
                "quality",
                {"en": GopherQualityFilter(), "zh": GopherQualityFilter(language=chinese, **CHINESE_QUALITY)},
                GopherQualityFilter(**NO_ENGLISH_RULES),
            ),
            JsonlWriter(documents),
        ],
    )
    stage("signatures", len(warcs), [JsonlReader(documents), SignatureByLanguage(signatures)])
    stage("buckets", MINHASH.num_buckets, [MinhashDedupBuckets(signatures, buckets, config=MINHASH)])
    stage("cluster", 1, [MinhashDedupCluster(buckets, removed, config=MINHASH)])
    # Duplicates are numbered by task and row: this reads the documents in the same tasks as the signatures did.
    tokenizing = stage(
        "tokens",
        len(warcs),
        [
            JsonlReader(documents),
            MinhashDedupFilter(removed),
            DocumentTokenizer(str(out / "tokens"), str(tokenizer), eos_token="<eos>"),
        ],
    )
    return {
        "pages_read": total(base, WarcReader.name, "documents"),
        "after_extraction": total(base, Trafilatura.name, "forwarded"),
        "after_quality": total(base, "quality", "forwarded"),
        "after_dedup": total(tokenizing, MinhashDedupFilter.name, "forwarded"),
        "tokens": total(tokenizing, DocumentTokenizer.name, "tokens"),
        "extraction_timeouts": total(base, Trafilatura.name, "timeout"),
    }


def total(stats: PipelineStats, step: str, label: str) -> int:
    """What the step of this name has counted under a label, over all tasks."""
    (found,) = (s for s in stats.stats if s.name.endswith(f": {step}"))
    return int(found[label].total)


if __name__ == "__main__":
    main()
