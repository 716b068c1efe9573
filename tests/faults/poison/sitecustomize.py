"""On the path of a process, makes reading any file called poison* kill it, as a bug in a native library would."""

import os
import signal

from corpusmill.pipeline.sources.tables import jsonl

_records = jsonl.records


def records(piece, counts):
    for record in _records(piece, counts):
        if piece.file_path.startswith("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield record


jsonl.records = records
