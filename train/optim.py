"""Optimizers by name, their state by parameter name, and gradient clipping.

All arithmetic is torch's. What is decided here is which parameter gets which rule: Muon is for the matrices inside
the layers (Jordan et al. 2024), the rest goes to AdamW; weight decay is for matrices only, never for norms or
embeddings (a tied head is an embedding). Muon's update is scaled to the root mean square of AdamW's (Liu et al.
2025, arXiv:2502.16982, section 2.2), so that one learning rate serves both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from corpusmill.schemas.errors import SchemaError

__all__ = ["OptimizerSettings", "Optimizers", "clip_gradients"]

_STATE: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq", "step"),
    torch.optim.Muon: ("momentum_buffer",),
    torch.optim.SGD: ("momentum_buffer",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSettings:
    """Which rule, and its constants; the learning rate is given at each step.

    Attributes:
        name: "muon" (with AdamW for embeddings, head and norms), "adamw" or "sgd".
        betas: AdamW's decay of the first and second moment.
        eps: AdamW's addition to the denominator.
        weight_decay: for matrices; decoupled from the gradient in Muon and AdamW, added to it in SGD.
        momentum: of Muon (Nesterov) or SGD; None means 0.95 for Muon and 0.9 for SGD.
    """

    name: Literal["muon", "adamw", "sgd"] = "muon"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    momentum: float | None = None


class Optimizers:
    """The optimizer or two that update a model.

    Parameters are known by their names in `model`, so give the bare model, not a DDP or compiled wrapper of it
    (they share its parameters). After FSDP2's `fully_shard` the state consists of DTensors, as the parameters do.
    """

    def __init__(self, model: nn.Module, settings: OptimizerSettings) -> None:
        self._names: dict[Tensor, str] = {
            parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self._optimizers = _optimizers(model, settings)
        # Zeros are what torch would begin with at the first step; made now, the state is complete from the start.
        self._set({key: torch.zeros_like(like) for key, like in self._expected().items()})

    def step(self, lr: float) -> None:
        """Update the parameters from their gradients at the learning rate `lr`."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """The whole state, sorted by name: `<parameter>/<key>`, for example `model.norm.weight/exp_avg`.

        Moments have the shape and dtype of the parameter, `step` is float32[] (exact to 2**24). The tensors are
        the live ones, not copies: the next step changes them.
        """
        tensors = {
            f"{self._names[parameter]}/{key}": optimizer.state[parameter][key]
            for optimizer, parameter in self._pairs()
            for key in _STATE[type(optimizer)]
        }
        return dict(sorted(tensors.items()))

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from a copy of what `state_tensors` gave, bit for bit.

        Raises:
            SchemaError: a name is missing or unexpected, or a shape or dtype is another; the message lists them.
        """
        expected = self._expected()
        problems = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
        problems += [f"{name} is not expected" for name in tensors.keys() - expected.keys()]
        for name in expected.keys() & tensors.keys():
            wanted, given = expected[name], tensors[name]
            if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
                problems.append(f"{name} is {_kind(given)}, expected {_kind(wanted)}")
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise SchemaError(
                f"the optimizer state does not fit this model and optimizer: {', '.join(sorted(problems)[:3])}{more}; "
                "continue with the model and optim.name that the checkpoint was written with"
            )
        self._set({name: tensor.clone() for name, tensor in tensors.items()})

    def _pairs(self) -> list[tuple[torch.optim.Optimizer, Tensor]]:
        """Each parameter with its optimizer, in the order in which torch numbers them."""
        return [(o, parameter) for o in self._optimizers for group in o.param_groups for parameter in group["params"]]

    def _expected(self) -> dict[str, Tensor]:
        """By name, a tensor that has the shape and dtype of each state tensor."""
        scalar = torch.zeros(())
        return {
            f"{self._names[parameter]}/{key}": scalar if key == "step" else parameter.detach()
            for optimizer, parameter in self._pairs()
            for key in _STATE[type(optimizer)]
        }

    def _set(self, tensors: Mapping[str, Tensor]) -> None:
        """Hand tensors to torch, which puts each on the device where its optimizer wants it."""
        for optimizer in self._optimizers:
            keys = _STATE[type(optimizer)]
            names = [self._names[parameter] for o, parameter in self._pairs() if o is optimizer]
            packed = optimizer.state_dict()
            packed["state"] = {
                number: {key: tensors[f"{name}/{key}"] for key in keys} for number, name in enumerate(names)
            }
            optimizer.load_state_dict(packed)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients together so that their Euclidean norm is at most `max_norm`; inf leaves them as they are.

    Returns:
        The norm before. Where it is not finite the gradients are of no use: do not step.
    """
    norm = nn.utils.clip_grad_norm_(list(parameters), max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _optimizers(model: nn.Module, settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """Built with lr 0, which `step` sets. Fused AdamW takes a third to a quarter of the time on a CPU core too."""
    hidden, matrices, rest = _split(model)
    adamw: dict[str, Any] = {"lr": 0.0, "betas": settings.betas, "eps": settings.eps, "fused": True}
    if settings.name == "muon":
        muon = torch.optim.Muon(
            hidden,
            lr=0.0,
            weight_decay=settings.weight_decay,
            momentum=0.95 if settings.momentum is None else settings.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        return [muon, torch.optim.AdamW(_groups(matrices, rest, settings), **adamw)]
    groups = _groups(hidden + matrices, rest, settings)
    if settings.name == "adamw":
        return [torch.optim.AdamW(groups, **adamw)]
    # Not fused: torch 2.13 has no sharding rule for it, so FSDP2 could not use it.
    return [torch.optim.SGD(groups, lr=0.0, momentum=0.9 if settings.momentum is None else settings.momentum)]


def _groups(decayed: list[nn.Parameter], rest: list[nn.Parameter], settings: OptimizerSettings) -> list[dict[str, Any]]:
    return [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside the layers; other matrices (the untied head); embeddings, norms and all else."""
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    hidden, matrices, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim != 2 or parameter in embeddings:
            rest.append(parameter)
        elif ".layers." in f".{name}":
            hidden.append(parameter)
        else:
            matrices.append(parameter)
    return hidden, matrices, rest


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
