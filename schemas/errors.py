"""Every error that corpusmill raises on purpose.

::

    CorpusmillError              exit code 1
    ├── UsageError               exit code 2: what the user typed or wrote cannot work
    │   └── RecipeError          a field of the recipe, with its value and the fix
    ├── SchemaError              a file whose schema name or major version is not the expected one
    ├── SourceError              an input that is missing, or cannot be listed or downloaded
    ├── LeaseError               the run folder is held by another run
    ├── LedgerError              the books of a run do not balance
    └── WorkerError              a worker process died, or a unit failed

A message says what was given, what was expected and what to type.
"""

__all__ = [
    "CorpusmillError",
    "LeaseError",
    "LedgerError",
    "RecipeError",
    "SchemaError",
    "SourceError",
    "UsageError",
    "WorkerError",
]


class CorpusmillError(Exception):
    """Base of all errors with a message for the user; the command prints it and exits with `exit_code`."""

    exit_code = 1


class UsageError(CorpusmillError):
    """What the user typed cannot work; nothing was started."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot work: the message names the field, its value, the reason and the fix."""


class SchemaError(CorpusmillError):
    """A file was written under another schema; the message names both."""


class SourceError(CorpusmillError):
    """An input is missing, or cannot be listed or downloaded."""


class LeaseError(CorpusmillError):
    """The run folder is held by another run that is alive."""


class LedgerError(CorpusmillError):
    """Records, verdicts and shard rows do not add up: a bug or a damaged run folder, never to be ignored."""


class WorkerError(CorpusmillError):
    """A worker process died or a unit failed; what was committed stays, the same command continues."""
