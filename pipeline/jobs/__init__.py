"""The jobs in the order in which they run; each knows its tasks and how one unit is done, none knows Beam."""

from corpusmill.pipeline.jobs.base import Job
from corpusmill.pipeline.jobs.close import Close
from corpusmill.pipeline.jobs.dedup import Dedup
from corpusmill.pipeline.jobs.extract import Extract
from corpusmill.pipeline.jobs.fetch import Fetch
from corpusmill.pipeline.jobs.manifest import ManifestJob
from corpusmill.pipeline.jobs.refine import Refine
from corpusmill.pipeline.jobs.select import Select
from corpusmill.pipeline.jobs.shard import Shard
from corpusmill.pipeline.jobs.tokenizer import TokenizerJob

__all__ = ["JOBS"]

_IN_ORDER: tuple[Job, ...] = (
    Fetch(),
    Extract(),
    Refine(),
    Select(),
    Dedup(),
    TokenizerJob(),
    Shard(),
    Close(),
    ManifestJob(),
)

JOBS: dict[str, Job] = {job.name: job for job in _IN_ORDER}
"""By name, in order."""
