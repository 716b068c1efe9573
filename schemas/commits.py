"""The commit record: the last file a unit publishes, and the only proof that its other files are there."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from corpusmill.schemas.files import FileInfo, Files

__all__ = ["Commit", "commit_name", "digest_of", "read_commit"]

_FORGOTTEN = "forgotten"


def digest_of(value: Any) -> str:
    """sha256 (64 hex digits) of the canonical JSON of a value made of dicts, lists, strings, numbers and None."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def commit_name(job: str, unit: str) -> str:
    """Name of a unit's commit record below the run folder."""
    return f"commits/{job}/{unit}.json"


class Commit(BaseModel):
    """What a job has published for one unit. No time, host or absolute path stands here.

    Attributes:
        job: name of the job.
        unit: name of the unit.
        fingerprint: sha256 over settings, inputs, library versions and stage versions (DESIGN §3).
        outputs: the published files.
        counts: rows by kind, summed over units for the run report.
        detail: what later jobs need and no table holds, as JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str
    unit: str
    fingerprint: str
    outputs: list[FileInfo]
    counts: dict[str, int]
    detail: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """Digest of the content that later jobs read; equal contents need no new work downstream."""
        outputs = sorted((info.name, info.sha256) for info in self.outputs)
        return digest_of([self.unit, outputs, self.counts, self.detail])

    @property
    def is_forgotten(self) -> bool:
        """Whether `forget` was called on it."""
        return self.fingerprint == _FORGOTTEN

    def forget(self, files: Files) -> None:
        """Have the unit done again; its record stays, it is what says which files are there."""
        self.model_copy(update={"fingerprint": _FORGOTTEN}).publish(files)

    def publish(self, files: Files) -> None:
        """Write the record; from here on the unit is done."""
        data = self.model_dump_json(indent=1).encode()
        files.write_bytes(commit_name(self.job, self.unit), data)


def read_commit(files: Files, job: str, unit: str) -> Commit | None:
    """The commit record of a unit, None if it has none."""
    data = files.read_or_none(commit_name(job, unit))
    return None if data is None else Commit.model_validate_json(data)
