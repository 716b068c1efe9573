"""The reimplementation of nanoGPT that bench/train compares with: its size, its layers, its loader."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from bench import peer_nanogpt
from bench.peer_nanogpt import GPT, GPTConfig

CONFIG = GPTConfig(block_size=16, vocab_size=50, n_layer=2, n_head=4, n_embd=32)


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(CONFIG)


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(1))


def test_gpt2_small_has_as_many_parameters_as_nanogpt_says() -> None:
    """`number of parameters: 123.59M` (train.py's default model; nanoGPT leaves positions out of that count)."""
    with torch.device("meta"):
        model = GPT(GPTConfig(block_size=1024, vocab_size=50304, n_layer=12, n_head=12, n_embd=768))
    assert round((model.n_parameters - 1024 * 768) / 1e6, 2) == 123.59


def test_parameters_by_hand(model: GPT) -> None:
    width, layers = CONFIG.n_embd, CONFIG.n_layer
    tables = (CONFIG.vocab_size + CONFIG.block_size) * width
    assert model.n_parameters == tables + layers * (12 * width * width + 2 * width) + width


def test_shapes(model: GPT) -> None:
    logits, loss = model(ids(3, 7), ids(3, 7))
    assert logits.shape == (3, 7, 50)
    assert loss is not None and loss.shape == ()
    last, none = model(ids(3, 7))
    assert none is None
    torch.testing.assert_close(last, logits[:, [-1]])


def test_a_position_does_not_see_those_after_it(model: GPT) -> None:
    x, y = ids(1, 16), ids(1, 16)
    logits, _ = model(x, y)
    x[0, 9] = (x[0, 9] + 1) % CONFIG.vocab_size
    changed, _ = model(x, y)
    torch.testing.assert_close(changed[:, :9], logits[:, :9])
    assert all(not torch.equal(changed[0, p], logits[0, p]) for p in range(9, 16))


def test_weights_begin_as_gpt2s(model: GPT) -> None:
    assert model.lm_head.weight is model.transformer["wte"].weight
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.all(parameter == 1), name
        else:
            expected = 0.02 / math.sqrt(4) if name.endswith("c_proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name


def test_an_untrained_model_is_about_uniform_and_learns(model: GPT) -> None:
    x, y = ids(4, 16), ids(4, 16).flip(0)
    optimizer = model.configure_optimizers(weight_decay=0.1, lr=1e-2, betas=(0.9, 0.95), fused=True)
    assert [len(group["params"]) for group in optimizer.param_groups] == [10, 5]
    assert model(x, y)[1].item() == pytest.approx(math.log(CONFIG.vocab_size), abs=0.1)
    for _ in range(20):
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=False)
        peer_nanogpt.train_step(model, optimizer, x, y, clip=1.0, autocast=autocast)
    assert model(x, y)[1].item() < 2


def test_targets_of_minus_one_do_not_count(model: GPT) -> None:
    x, y = ids(2, 8), ids(2, 8)
    y[1] = -1
    torch.testing.assert_close(model(x, y)[1], model(x[:1], y[:1])[1])


def test_a_bin_is_the_documents_each_with_eos(tmp_path: Path) -> None:
    documents = [[5, 6, 7], [8], [9, 10]]
    peer_nanogpt.write_bin(Dataset.from_dict({"input_ids": documents}), tmp_path / "train.bin", eos=1)
    assert np.fromfile(tmp_path / "train.bin", np.uint16).tolist() == [5, 6, 7, 1, 8, 1, 9, 10, 1]


def test_a_batch_is_stretches_of_the_bin_and_the_tokens_that_follow(tmp_path: Path) -> None:
    np.arange(100, dtype=np.uint16).tofile(tmp_path / "train.bin")
    torch.manual_seed(0)
    x, y = peer_nanogpt.get_batch(tmp_path / "train.bin", 20, 8)
    assert x.shape == y.shape == (20, 8)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(x, x[:, :1] + torch.arange(8))
    assert torch.equal(y, x + 1)
    assert len(x[:, 0].unique()) > 10
