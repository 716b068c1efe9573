"""A model folder of its own, out of a checkpoint."""

from corpusmill.schemas.errors import UsageError
from corpusmill.schemas.files import FileInfo, Files
from corpusmill.train.checkpoint import find_model
from corpusmill.train.model.folder import Dtype, read_model, write_model

__all__ = ["export"]


def export(location: str, to: str, *, dtype: Dtype = "fp32") -> list[FileInfo]:
    """Write the model of a checkpoint as a folder that transformers reads, with its card.

    Args:
        location: a run, one of its step-N folders, or a model folder.
        to: the new folder, a local path or fsspec URL.
        dtype: of the weights; bf16 halves the size and rounds.

    Returns:
        What was written.

    Raises:
        UsageError: no model, or the folder is there already.
    """
    source, target = Files(find_model(location)), Files(to)
    if target.exists("config.json"):
        raise UsageError(f"--to {to}: there is a model already; name another folder")
    model = read_model(source.root)
    card = source.read_or_none("README.md")
    return write_model(
        target,
        "",
        model.decoder,
        model.tokenizer_json,
        eos=model.eos_token,
        card=None if card is None else card.decode(),
        dtype=dtype,
    )
