import copy
import math

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from corpusmill.schemas.errors import SchemaError
from corpusmill.train.optim import Optimizers, OptimizerSettings, clip_gradients

NAMES = ("muon", "adamw", "sgd")
EMBEDDING = "embed.weight"
HEAD = "head.weight"
MATRICES = ("layers.0.up.weight", "layers.0.down.weight")
VECTORS = ("layers.0.norm.weight", "norm.weight")


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(8)
        self.up = nn.Linear(8, 24, bias=False)
        self.down = nn.Linear(24, 8, bias=False)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).relu())


class Model(nn.Module):
    """The parts by which parameters are told apart: embedding, matrices in layers, norms, head."""

    def __init__(self, *, tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList([Layer()])
        self.norm = nn.RMSNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def train(model, optimizers, steps, first=0):
    for step in range(first, first + steps):
        ids = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(step))
        nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.roll(1, 1).flatten()).backward()
        optimizers.step(3e-3 / (step + 1))
        optimizers.zero_grad()


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def owners(name, *, tied=False):
    """By state key the parameters that have it."""
    found = {}
    for key in Optimizers(Model(tied=tied), OptimizerSettings(name=name)).state_tensors():
        parameter, _, state = key.rpartition("/")
        found.setdefault(state, set()).add(parameter)
    return found


def test_muon_has_the_matrices_of_the_layers_and_adamw_the_rest():
    rest = {EMBEDDING, HEAD, *VECTORS}
    assert owners("muon") == {"momentum_buffer": set(MATRICES), "exp_avg": rest, "exp_avg_sq": rest, "step": rest}


def test_adamw_and_sgd_have_all():
    everything = {EMBEDDING, HEAD, *MATRICES, *VECTORS}
    assert owners("adamw") == dict.fromkeys(("exp_avg", "exp_avg_sq", "step"), everything)
    assert owners("sgd") == {"momentum_buffer": everything}


def test_a_tied_table_is_one_parameter_and_an_embedding():
    assert HEAD not in owners("muon", tied=True)["exp_avg"]
    assert EMBEDDING in owners("muon", tied=True)["exp_avg"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [False, True])
def test_only_matrices_decay(name, tied):
    model = Model(tied=tied)
    before = values(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizers(model, OptimizerSettings(name=name, weight_decay=0.5)).step(0.1)
    for parameter, value in values(model).items():
        decays = parameter in (*MATRICES, HEAD)
        torch.testing.assert_close(value, before[parameter] * (0.95 if decays else 1.0))


def test_adamw_is_the_published_rule():
    """Loshchilov & Hutter 2019, algorithm 2."""
    model = Model()
    optimizers = Optimizers(model, OptimizerSettings(name="adamw", betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1))
    expected = model.layers[0].up.weight.detach().double().clone()
    mean = square = torch.zeros_like(expected)
    for t, lr in enumerate((0.01, 0.02, 0.005), start=1):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(t))
        gradient = model.layers[0].up.weight.grad.double()
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        expected = expected * (1 - lr * 0.1)
        expected -= lr * (mean / (1 - 0.8**t)) / ((square / (1 - 0.9**t)).sqrt() + 1e-6)
        optimizers.step(lr)
    torch.testing.assert_close(model.layers[0].up.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_sgd_has_momentum():
    model = Model()
    before = model.norm.weight.detach().clone()
    optimizers = Optimizers(model, OptimizerSettings(name="sgd"))
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step(0.1)
    torch.testing.assert_close(model.norm.weight.detach(), before - 0.1 * 1 - 0.1 * (0.9 + 1))


def test_one_learning_rate_serves_both_rules_of_muon():
    """AdamW's first update has a root mean square of lr, Muon's is scaled to the .2 lr that AdamW's later ones have."""
    model = Model()
    before = values(model)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    Optimizers(model, OptimizerSettings(name="muon", weight_decay=0.0)).step(0.01)
    size = {name: float((value - before[name]).square().mean().sqrt()) / 0.01 for name, value in values(model).items()}
    assert size[EMBEDDING] == pytest.approx(1.0, rel=1e-3)
    for name in MATRICES:
        assert 0.14 < size[name] < 0.24


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_in_the_same_bits(name):
    settings = OptimizerSettings(name=name)
    whole = Model()
    train(whole, Optimizers(whole, settings), 6)

    model = Model()
    first = Optimizers(model, settings)
    train(model, first, 3)
    stored = save(first.state_tensors())
    resumed = copy.deepcopy(model)
    second = Optimizers(resumed, settings)
    second.load_state_tensors(load(stored))
    train(resumed, second, 3, first=3)

    for parameter, value in values(whole).items():
        assert torch.equal(value, values(resumed)[parameter]), parameter


def test_state_is_complete_before_the_first_step_and_counts_steps():
    model = Model()
    optimizers = Optimizers(model, OptimizerSettings())
    fresh = optimizers.state_tensors()
    assert list(fresh) == sorted(fresh)
    assert all(not tensor.any() for tensor in fresh.values())
    train(model, optimizers, 3)
    state = optimizers.state_tensors()
    assert state.keys() == fresh.keys()
    assert state[f"{EMBEDDING}/step"].item() == 3
    assert state[f"{EMBEDDING}/exp_avg"].shape == (11, 8)


def test_loading_copies():
    optimizers = Optimizers(Model(), OptimizerSettings())
    given = {name: torch.ones_like(tensor) for name, tensor in optimizers.state_tensors().items()}
    optimizers.load_state_tensors(given)
    for tensor in given.values():
        tensor.zero_()
    assert all(tensor.all() for tensor in optimizers.state_tensors().values())


def test_state_of_another_optimizer_or_model_is_refused_by_name():
    optimizers = Optimizers(Model(), OptimizerSettings(name="muon"))
    good = optimizers.state_tensors()

    missing = dict(good)
    del missing["norm.weight/exp_avg"]
    with pytest.raises(SchemaError, match="norm.weight/exp_avg is missing"):
        optimizers.load_state_tensors(missing)
    with pytest.raises(SchemaError, match="extra/step is not expected"):
        optimizers.load_state_tensors({**good, "extra/step": torch.zeros(())})
    with pytest.raises(SchemaError, match=r"norm.weight/exp_avg is float32\[9\], expected float32\[8\]"):
        optimizers.load_state_tensors({**good, "norm.weight/exp_avg": torch.zeros(9)})
    with pytest.raises(SchemaError, match=r"is float16\[8\], expected float32\[8\]"):
        optimizers.load_state_tensors({**good, "norm.weight/exp_avg": torch.zeros(8, dtype=torch.float16)})
    with pytest.raises(SchemaError, match="and 5 more; continue with the model and optim.name"):
        optimizers.load_state_tensors(Optimizers(Model(), OptimizerSettings(name="adamw")).state_tensors())


def test_frozen_parameters_are_left_alone():
    model = Model()
    model.embed.weight.requires_grad_(False)
    before = values(model)
    optimizers = Optimizers(model, OptimizerSettings())
    train(model, optimizers, 1)
    assert torch.equal(values(model)[EMBEDDING], before[EMBEDDING])
    assert not any(name.startswith("embed.") for name in optimizers.state_tensors())


def test_gradients_are_scaled_together():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradients([a, b], 1.0) == pytest.approx(5.0)
    torch.testing.assert_close(torch.cat([a.grad, b.grad]), torch.tensor([0.6, 0.0, 0.8]))
    assert clip_gradients([a, b], 2.0) == pytest.approx(1.0)  # small ones stay
    torch.testing.assert_close(torch.cat([a.grad, b.grad]), torch.tensor([0.6, 0.0, 0.8]))


def test_without_a_limit_gradients_stay():
    a, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([a, unused], math.inf) == 5.0
    assert a.grad.tolist() == [3.0, 4.0]


def test_a_gradient_that_is_not_finite_shows_in_the_norm():
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([math.nan, 1.0])
    assert math.isnan(clip_gradients([a], 1.0))
