#!/usr/bin/env python3
"""datatrove's signature step, in an environment of its own; `bench/signing.py --peer` drives it.

    python3 -m venv ~/venvs/datatrove
    ~/venvs/datatrove/bin/pip install 'datatrove==0.10.1' 'xxhash<4' regex tokenizers spacy jieba

xxhash 4 refuses the str that datatrove hashes. Called with a language (en, zh) and a JSONL file of texts; prints the
version of datatrove, then signs all of the texts for each line of its standard input and prints what that took. Both
are JSON in one line.

Settings are datatrove's defaults: 14 buckets of 8 hashes over 5-grams of words, which spaCy cuts, in Chinese jieba. The
rest of the step, which writes and sorts files, is left out.
"""

import importlib.metadata
import json
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.utils.typeshelper import Languages
from timing import timed

LANGUAGES = {"en": Languages.english, "zh": Languages.mandarin_chinese}


def main() -> None:
    language, path = sys.argv[1:]
    texts = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    n_bytes = sum(len(text.encode()) for text in texts)
    answers = sys.stdout

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        step = MinhashDedupSignature(folder, language=LANGUAGES[language])

        def sign() -> int:
            for text in texts:
                shingles = step.get_shingles(text)
                if shingles.size:
                    step.get_signature(shingles)
            return n_bytes

        answer(version=importlib.metadata.version("datatrove"))
        for _ in sys.stdin:
            answer(**asdict(timed(sign)))


if __name__ == "__main__":
    main()
