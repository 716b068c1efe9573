"""Dataset folder to checkpoint (the training stage; its modules import torch, never Beam or pipeline).

For use from Python::

    from corpusmill.train import generate, load_model, open_dataset

    samples = open_dataset("runs/web/dataset", sequence_length=1024)   # a torch IterableDataset
    model = load_model("runs/small")
    print(generate(model, "The history of", max_new_tokens=40)[0])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpusmill.train.data.iterable import open_dataset
    from corpusmill.train.generation import generate, load_model

__all__ = ["generate", "load_model", "open_dataset"]

_HOME = {"open_dataset": "data.iterable", "load_model": "generation", "generate": "generation"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: `corpusmill train --help` must not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
