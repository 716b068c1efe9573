"""Sizes: what is refused, and the counts against the real thing."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from corpusmill.schemas.errors import UsageError
from corpusmill.train.model.config import PRESETS, ModelConfig, preset
from corpusmill.train.model.decoder import Decoder, init_weights

VALID = {"vocab_size": 10, "dim": 24, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 8, "max_length": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 26}, "dim 26 is not a multiple of n_heads 4"),
        ({"dim": 20}, "dim 20 / n_heads 4 = 5 is odd; rotation needs pairs"),
        ({"n_kv_heads": 3}, "n_heads 4 is not a multiple of n_kv_heads 3"),
        ({"n_layers": 0}, "greater than 0"),
        ({"vocab_size": "10"}, "valid integer"),
        ({"rope_theta": 1.0}, "greater than 1"),
        ({"norm_eps": 0.0}, "greater than 0"),
        ({"width": 24}, "not permitted"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**(VALID | changes))


def test_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(UsageError, match='no model size "13b"; choose one of nano, small, medium, 1b, 3b, 7b'):
        preset("13b", 4096)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_counts_are_those_of_the_model(name: str, tied: bool) -> None:
    config = preset(name, 32000).model_copy(update={"tied": tied})
    with torch.device("meta"):
        parameters = dict(Decoder(config).named_parameters())
    inside = {name: p for name, p in parameters.items() if "embed_tokens" not in name and "lm_head" not in name}
    assert config.n_parameters == sum(p.numel() for p in parameters.values())
    assert config.n_parameters_without_embeddings == sum(p.numel() for p in inside.values())
    assert config.n_matrix_parameters == sum(p.numel() for p in inside.values() if p.ndim == 2)


@pytest.mark.parametrize(
    ("name", "vocab_size", "published"),
    [
        ("small", 49152, 134_515_008),  # SmolLM-135M
        ("medium", 49152, 361_821_120),  # SmolLM-360M
        ("1b", 32000, 1_100_048_384),  # TinyLlama-1.1B
        ("3b", 128256, 3_212_749_824),  # Llama-3.2-3B
        ("7b", 32000, 6_738_415_616),  # Llama-2-7b
    ],
)
def test_presets_have_the_sizes_of_their_models(name: str, vocab_size: int, published: int) -> None:
    assert preset(name, vocab_size).n_parameters == published


def test_flops_are_six_a_weight_and_attention() -> None:
    config = ModelConfig(**VALID)
    products = 24 * 24 * 2 + 24 * 12 * 2 + 3 * 24 * 8 + 10 * 24
    norms = 3 * 24
    assert config.flops_per_token(100) == 6 * (products + norms) + 12 * 1 * 24 * 100
    tied = ModelConfig(**VALID, tied=True)
    assert tied.flops_per_token(100) == config.flops_per_token(100), "a tied head is multiplied all the same"


NANO = preset("nano", 500)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_weights_gradients_and_optimizer_states_are_exact(optimizer: str) -> None:
    decoder = Decoder(NANO)
    init_weights(decoder, 0)
    decoder(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
    matrices = [p for name, p in decoder.named_parameters() if "proj" in name]
    rest = [p for name, p in decoder.named_parameters() if "proj" not in name]
    makers = {
        "adamw": lambda: [torch.optim.AdamW(decoder.parameters())],
        "muon": lambda: [torch.optim.Muon(matrices), torch.optim.AdamW(rest)],
        "sgd": lambda: [torch.optim.SGD(decoder.parameters(), momentum=0.9)],
    }
    states = 0
    for torch_optimizer in makers[optimizer]():
        torch_optimizer.step()
        for state in torch_optimizer.state.values():
            states += sum(tensor.nbytes for tensor in state.values() if tensor.ndim > 0)
    expected = NANO.training_bytes(1, 4, optimizer)
    assert expected.weights == sum(p.nbytes for p in decoder.parameters())
    assert expected.gradients == sum(p.grad.nbytes for p in decoder.parameters() if p.grad is not None)
    assert expected.optimizer == states
    assert expected.total == expected.weights + expected.gradients + expected.optimizer + expected.activations


@pytest.mark.parametrize(("autocast", "length"), [(False, 64), (True, 512)])
def test_activations_are_about_what_autograd_keeps(autocast: bool, length: int) -> None:
    decoder = Decoder(NANO)
    init_weights(decoder, 0)
    own = {p.untyped_storage().data_ptr() for p in decoder.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.zeros(2, length, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = decoder(ids)
        nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    n_bytes = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    estimate = NANO.training_bytes(2, length, "adamw", value_bytes=2 if autocast else 4).activations
    assert estimate == pytest.approx(n_bytes, rel=0.15)
