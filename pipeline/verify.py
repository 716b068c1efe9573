"""Whether the inputs of a run still are what they were when they were fetched, byte for byte."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from corpusmill.pipeline.jobs.fetch import Fetch, sha256_of
from corpusmill.pipeline.plan import SourceFile
from corpusmill.pipeline.progress import Progress
from corpusmill.schemas.commits import read_commit
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.files import Files

__all__ = ["forget_changed"]


def forget_changed(
    inputs: Sequence[SourceFile],
    files: Files,
    progress: Progress,
) -> list[str]:
    """Read every fetched file again and make those stale whose digest is another: the fetch job brings them anew.

    Args:
        inputs: the files of the plan; those that were never fetched are left to the fetch job.
        files: the run folder.
        progress: is told how far it is.

    Returns:
        What changed: names of files, in the order of the plan.
    """

    def check(file: SourceFile) -> str | None:
        commit = read_commit(files, Fetch.name, file.name)
        if commit is None or commit.is_forgotten:
            return None
        try:
            if file.remote is None:
                same = sha256_of(file.location, file.members)[0] == commit.detail["sha256"]
            else:
                same = all(sha256_of(files.url(info.name))[0] == info.sha256 for info in commit.outputs)
        except SourceError:
            same = False
        if same:
            return None
        for info in commit.outputs:
            files.delete(info.name)
        commit.forget(files)
        return f"{file.source}: {file.file_path}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [name for name in progress.track(pool.map(check, inputs), len(inputs)) if name is not None]
