"""The decoder against its reference, and what document masks promise."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corpusmill.train.model.attention import attention_mask
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder, init_weights
from tests.reference import decoder as reference

TINY = ModelConfig(vocab_size=11, dim=12, n_layers=2, n_heads=2, n_kv_heads=1, ffn_dim=10, max_length=8)
SMALL = ModelConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, max_length=32, tied=True)


def make(config: ModelConfig, dtype: torch.dtype = torch.float32, spread: float = 0.3) -> Decoder:
    """A decoder whose weights are large enough to make every part count, norms included."""
    decoder = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread + (parameter.ndim == 1))
    return decoder.to(dtype)


def random_ids(config: ModelConfig, rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


@st.composite
def segment_layouts(draw: st.DrawFn) -> list[list[int]]:
    """Rows of one length; in each, documents one after another with dead positions strewn in."""
    rows, length = draw(st.integers(1, 2)), draw(st.integers(1, 7))
    layout = []
    for _ in range(rows):
        steps = draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
        dead = draw(st.lists(st.sampled_from([False, False, True]), min_size=length, max_size=length))
        layout.append([-1 if is_dead else sum(steps[: i + 1]) for i, is_dead in enumerate(dead)])
    return layout


@settings(max_examples=20, deadline=None)
@given(layout=segment_layouts(), seed=st.integers(0, 99), tied=st.booleans())
def test_outputs_and_gradients_are_those_of_the_reference(layout: list[list[int]], seed: int, tied: bool) -> None:
    config = TINY.model_copy(update={"tied": tied})
    decoder = make(config, torch.float64)
    ids = random_ids(config, len(layout), len(layout[0]), seed)
    got = decoder(ids, segments=torch.tensor(layout))
    weights = {name: tensor.clone().requires_grad_() for name, tensor in decoder.state_dict().items()}
    rows = [
        reference.logits(weights, row, segments, config) for row, segments in zip(ids.tolist(), layout, strict=True)
    ]
    expected = torch.stack(rows)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)

    cotangent = torch.randn(got.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    got.backward(cotangent)
    expected.backward(cotangent)
    for name, parameter in decoder.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-5, atol=1e-5, msg=name)


def test_later_tokens_change_no_earlier_logits() -> None:
    decoder = make(SMALL)
    ids = random_ids(SMALL, 2, 20)
    changed = ids.clone()
    changed[:, 12:] = (ids[:, 12:] + 1) % SMALL.vocab_size
    assert torch.equal(decoder(ids)[:, :12], decoder(changed)[:, :12])


@pytest.mark.parametrize("autocast", [False, True])
def test_a_document_changes_no_other_documents_logits(autocast: bool) -> None:
    """Bit for bit, with a hole of dead positions in the document that changes."""
    decoder = make(SMALL)
    segments = torch.tensor([[0] * 5 + [1] * 7 + [-1, -1] + [1] * 2 + [2] * 4])
    ids = random_ids(SMALL, 1, 20)
    changed = ids.clone()
    changed[:, 5:16] = (ids[:, 5:16] + 7) % SMALL.vocab_size
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        before, after = decoder(ids, segments=segments), decoder(changed, segments=segments)
    others = (segments == 0) | (segments == 2)
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[segments == 1], after[segments == 1])


def test_a_document_reads_the_same_in_a_window_as_alone() -> None:
    """Positions count on over documents, but rotary attention sees only their differences."""
    decoder = make(SMALL)
    ids = random_ids(SMALL, 1, 24)
    segments = torch.tensor([[0] * 9 + [1] * 15])
    alone = decoder(ids[:, 9:])
    torch.testing.assert_close(decoder(ids, segments=segments)[:, 9:], alone, rtol=1e-4, atol=1e-4)


def test_a_mask_built_ahead_is_the_mask_of_the_segments() -> None:
    decoder = make(SMALL)
    ids, segments = random_ids(SMALL, 2, 16), torch.tensor([[0] * 8 + [1] * 8, [0] * 16])
    ahead = decoder(ids, mask=attention_mask(segments, ids.device))
    assert torch.equal(decoder(ids, segments=segments), ahead)


def test_dead_positions_give_finite_gradients() -> None:
    decoder = make(SMALL)
    logits = decoder(random_ids(SMALL, 2, 6), segments=torch.tensor([[-1] * 6, [-1, -1, 0, 0, -1, 1]]))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in decoder.parameters())


@pytest.mark.parametrize("length", [24, 300], ids=["short", "long"])
def test_bf16_autocast_is_close_to_fp32_and_keeps_fp32_gradients(length: int) -> None:
    """Short rows take attention by matrix products, long ones torch's fused kernel."""
    decoder = make(SMALL, spread=0.1)
    ids = random_ids(SMALL, 2, length)
    segments = (torch.arange(length) // 10).expand(2, length)
    exact = decoder(ids, segments=segments).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = decoder(ids, segments=segments)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05 * float(exact.abs().max()))
    rounded.float().square().sum().backward()
    assert {parameter.grad.dtype for parameter in decoder.parameters() if parameter.grad is not None} == {torch.float32}


def test_positions_beyond_the_trained_context() -> None:
    """The table of positions grows; earlier positions are as before, and training after inference works."""
    decoder = make(SMALL)
    ids = random_ids(SMALL, 1, 3 * SMALL.max_length)
    with torch.inference_mode():
        long = decoder(ids)
    short = decoder(ids[:, : SMALL.max_length])
    torch.testing.assert_close(long[:, : SMALL.max_length], short.detach(), rtol=1e-5, atol=1e-5)
    short.sum().backward()


def test_rotary_positions_survive_casts_and_the_meta_device() -> None:
    decoder = make(SMALL)
    ids = random_ids(SMALL, 1, 30)
    expected = decoder(ids)
    with torch.device("meta"):
        empty = Decoder(SMALL)
    empty = empty.to_empty(device="cpu").bfloat16().float()
    empty.load_state_dict(decoder.state_dict())
    assert torch.equal(empty(ids), expected)
    assert torch.equal(copy.deepcopy(decoder)(ids), expected)


def test_initial_weights_follow_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = (Decoder(SMALL) for _ in range(3))
    for decoder, seed in ((first, 3), (second, 3), (other, 4)):
        init_weights(decoder, seed)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_initial_spread() -> None:
    """Projections back into the stream are drawn smaller, by the root of how many there are."""
    decoder = Decoder(SMALL.model_copy(update={"dim": 256, "ffn_dim": 256, "n_layers": 8}))
    init_weights(decoder, 0)
    layer = decoder.model.layers[5]
    assert float(layer.self_attn.q_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(layer.self_attn.o_proj.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.02)
    assert float(layer.mlp.down_proj.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.02)
    assert torch.equal(layer.input_layernorm.weight, torch.ones(256))
