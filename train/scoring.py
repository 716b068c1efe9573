"""Evaluation of a model on the held-out documents of datasets: during a run, and of a checkpoint by itself."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import torch

from corpusmill.schemas.errors import UsageError
from corpusmill.train.checkpoint import find_config, find_model
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.distributed import Processes
from corpusmill.train.evaluation import Evaluation, evaluate
from corpusmill.train.hardware import Precision, pick_device, pick_precision
from corpusmill.train.model.decoder import Decoder
from corpusmill.train.model.folder import read_model

__all__ = ["score", "score_checkpoint"]


def score(
    decoder: Decoder,
    datasets: Sequence[TokenDataset],
    *,
    sequence_length: int,
    precision: Precision,
    processes: Processes,
    max_documents: int | None = None,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Score a model on documents (see `evaluate`); every process takes each world-th batch and gets the whole result.

    Args:
        decoder: on the process's device.
        datasets: opened at the split that is scored.
        sequence_length: most tokens a row.
        precision: fp32 or bf16.
        processes: of the run.
        max_documents: of each dataset, its first ones; None: all.
        progress: called after each batch with the number of tokens that it scored.
        stop: asked after each batch; once it is true on any process, there is no result.

    Returns:
        The scores; None if it was stopped.
    """

    def watch(n_tokens: int) -> None:
        if stop():
            raise _Stopped
        if progress is not None:
            progress(n_tokens)

    mine: Evaluation | None = None
    with contextlib.suppress(_Stopped):
        mine = evaluate(
            decoder,
            _share(datasets, processes, max_documents),
            sequence_length=sequence_length,
            eos=datasets[0].eos,
            device=processes.device,
            autocast=torch.bfloat16 if precision == "bf16" else None,
            progress=watch,
        )
    whole = Evaluation()
    for part in processes.gather(mine):
        if part is None:
            return None
        whole.add(part)
    return whole


class _Stopped(Exception):  # noqa: N818 no error: it ends a loop from within
    pass


def score_checkpoint(
    location: str,
    data: Sequence[str],
    *,
    split: str,
    max_documents: int | None = None,
    sequence_length: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score a checkpoint.

    Args:
        location: a run, one of its step-N folders, or a model folder.
        data: dataset folders; none: those that the run was trained on.
        split: which part of them.
        max_documents: of each dataset, its first ones; None: all.
        sequence_length: most tokens a row; None: what the run was trained with, else the model's context.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
        progress: called after each batch with the number of tokens that it scored.

    Raises:
        UsageError: no model, no dataset, or one made with another tokenizer.
        SchemaError: a folder that is not what it says.
    """
    folder, config = find_model(location), find_config(location)
    paths = data or ([choice.path for choice in config.data.datasets] if config else [])
    if not paths:
        raise UsageError(f"{location} does not say what it was trained on: give --data DIR/dataset")
    model = read_model(folder)
    digest = hashlib.sha256(model.tokenizer_json).hexdigest()
    datasets = [TokenDataset.open(path, split=split, decode=False) for path in paths]
    for dataset in datasets:
        if dataset.manifest.tokenizer.sha256 != digest:
            raise UsageError(
                f"{dataset.location} was made with another tokenizer than the model: sha256 "
                f"{dataset.manifest.tokenizer.sha256}, expected {digest}; tokenize it with the model's tokenizer.json"
            )
    trained = config.data.sequence_length if config else None
    where = pick_device(device)
    found = score(
        model.decoder.to(where),
        datasets,
        sequence_length=sequence_length or trained or model.decoder.config.max_length,
        precision=pick_precision(precision, where),
        processes=Processes(rank=0, world=1, device=where),
        max_documents=max_documents,
        progress=progress,
    )
    assert found is not None, "nothing stops it"
    return found


_SHARE = 16
"""Documents that a process takes at a time."""


def _share(
    datasets: Sequence[TokenDataset], processes: Processes, max_documents: int | None
) -> Iterator[pa.RecordBatch]:
    number = 0
    for dataset in datasets:
        n_seen = 0
        for batch in dataset.documents(["input_ids", "n_bytes", "language", "source"]):
            wanted = batch if max_documents is None else batch.slice(0, max_documents - n_seen)
            n_seen += wanted.num_rows
            for start in range(0, wanted.num_rows, _SHARE):
                if number % processes.world == processes.rank:
                    yield wanted.slice(start, _SHARE)
                number += 1
            if n_seen == max_documents:
                break
