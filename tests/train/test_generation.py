"""Generation: the ids of a plain oracle and of transformers, and texts that are whole characters and stop in time."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from torch import Tensor, nn

from corpusmill.schemas.errors import CorpusmillError, UsageError
from corpusmill.schemas.files import Files
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json
from corpusmill.train.generation import LanguageModel, generate, generate_ids, load_model
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder, init_weights
from corpusmill.train.model.folder import write_model
from corpusmill.train.utf8 import next_states, token_bytes
from tests.reference.sampling import continue_ids, distribution, draw
from tests.train.corpus import EOS, PAD, byte_tokenizer

SIZES = {"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 48, "max_length": 12}
TOKENIZER = from_json(byte_tokenizer())
PIECES = ["ab", "aab", "文字"]
"""Tokens of several characters, behind the bytes."""

TOKENIZER.add_tokens(PIECES)
SIZE = TOKENIZER.get_vocab_size()
ID = {piece: i for i, piece in enumerate(token_bytes(TOKENIZER, SIZE)) if piece is not None}
"""By the bytes that a token stands for."""


def make_decoder(vocab_size: int, seed: int = 0) -> Decoder:
    """A small decoder whose next token depends on all tokens before it and is far from certain or uniform."""
    decoder = Decoder(ModelConfig(vocab_size=vocab_size, **SIZES))
    init_weights(decoder, seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    return decoder


def language_model(decoder: Decoder) -> LanguageModel:
    return LanguageModel(model=decoder, tokenizer=TOKENIZER, eos=EOS, pad=PAD, context=SIZES["max_length"])


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder(50)


@pytest.fixture(scope="module")
def babbler() -> LanguageModel:
    """A model that knows nothing, bytes that make a character least of all."""
    return language_model(make_decoder(SIZE))


def draws_of(seed: int, row: int, n: int) -> list[float]:
    """The draws of a row, taken at once: those of `generate_ids`, which takes one a step, are the same."""
    return np.random.Generator(np.random.PCG64([seed, row])).random(n).tolist()


PROMPTS = [[1, 7, 3], [1], [1, 4, 4, 9, 30, 2, 11], [*range(1, 31)]]
SETTINGS = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 1.0, "top_k": 10, "top_p": 0.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("eos", [None, 4])
def test_ids_are_those_of_the_oracle_whatever_the_batch(decoder: Decoder, settings: dict, eos: int | None) -> None:
    """Unequal prompts, one beyond the context, new tokens beyond it, rows that end at different times."""

    @torch.no_grad()
    def logits_of(window: Sequence[int]) -> list[float]:
        return decoder(torch.tensor([window]))[0, -1].tolist()

    found = generate_ids(decoder, PROMPTS, max_new_tokens=40, eos=eos, seed=5, **settings)
    for row, prompt in enumerate(PROMPTS):
        expected = continue_ids(logits_of, prompt, draws_of(5, row, 40), context=12, eos=eos, **settings)
        assert found[row] == expected, row
    if eos is not None:
        assert len({len(row) for row in found}) > 1


def test_greedy_ids_are_those_of_transformers(decoder: Decoder) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=12,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
    )
    theirs = transformers.LlamaForCausalLM(config)
    theirs.load_state_dict(decoder.state_dict())
    for prompt in PROMPTS[:3]:
        expected = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=30,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        # They look back without end, so the context here is all there is.
        assert generate_ids(decoder, [prompt], max_new_tokens=30, context=64) == [expected[0, len(prompt) :].tolist()]


def test_prompts_behind_a_row_and_a_longer_limit_do_not_change_it(decoder: Decoder) -> None:
    few = generate_ids(decoder, PROMPTS[:2], max_new_tokens=20, temperature=1.0, seed=3)
    many = generate_ids(decoder, PROMPTS, max_new_tokens=30, temperature=1.0, seed=3)
    assert [row[:20] for row in many[:2]] == few


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_limit_costs_nothing_until_it_is_reached(temperature: float) -> None:
    model = scripted([prefers(ID[b"a"]), prefers(ID[b"b"]), prefers(EOS)])
    assert generate(model, ["x", "y"], max_new_tokens=10**11, temperature=temperature) == ["ab", "ab"]


def test_the_most_probable_token_needs_no_draw(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate_ids(decoder, PROMPTS, max_new_tokens=5)
    monkeypatch.delattr(np.random, "PCG64")
    assert generate_ids(decoder, PROMPTS, max_new_tokens=5) == expected


def test_rows_with_the_same_prompt_and_runs_with_another_seed_differ(decoder: Decoder) -> None:
    one, two = generate_ids(decoder, [[1, 2], [1, 2]], max_new_tokens=20, temperature=1.0, seed=3)
    assert one != two
    assert generate_ids(decoder, [[1, 2]], max_new_tokens=20, temperature=1.0, seed=4) != [one]


class Scripted(nn.Module):
    """Stands for a decoder: says the given ids one after another, or what `logits_at` of the step gives."""

    def __init__(self, script: Sequence[int] | Sequence[Tensor], max_length: int = 12) -> None:
        super().__init__()
        self.config = ModelConfig(vocab_size=SIZE, **SIZES | {"max_length": max_length})
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(1, 1)
        self.script = list(script)
        self.step = 0

    def hidden(self, ids: Tensor, *, cache) -> Tensor:
        cache.advance(ids.shape[1])
        return torch.zeros(*ids.shape, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        said = self.script[self.step]
        self.step += 1
        row = said if isinstance(said, Tensor) else nn.functional.one_hot(torch.tensor(said), SIZE).float()
        return row.repeat(hidden.shape[0], 1)


def scripted(script: Sequence[int] | Sequence[Tensor]) -> LanguageModel:
    return language_model(Scripted(script))  # type: ignore[arg-type]


def prefers(*tokens: int) -> Tensor:
    """Logits under which the first of these tokens that is legal is chosen, others after all of them."""
    row = torch.zeros(SIZE)
    for rank, token in enumerate(tokens):
        row[token] = 100.0 - rank
    return row


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("n_candidates", [7, 400])
def test_draws_follow_the_distribution(settings: dict, n_candidates: int) -> None:
    """Rows that see the same logits draw as the oracle draws at their points."""
    logits = torch.full((SIZE,), -math.inf)
    logits[:n_candidates] = torch.randn(min(n_candidates, SIZE), generator=torch.Generator().manual_seed(1)) * 2
    p = distribution(logits.tolist(), **settings)
    n = 300
    found = generate_ids(Scripted([logits]), [[1]] * n, max_new_tokens=1, seed=2, **settings)  # type: ignore[arg-type]
    assert found == [[draw(p, draws_of(2, row, 1)[0])] for row in range(n)]


def test_equally_probable_tokens_are_kept_or_left_together() -> None:
    logits = torch.full((SIZE,), -math.inf)
    logits[10:14] = torch.tensor([1.0, 2.0, 1.0, 1.0])
    for settings, expected in [
        ({"top_k": 1}, {11}),
        ({"top_k": 2}, {10, 11, 12, 13}),
        ({"top_p": 0.5}, {10, 11, 12, 13}),
    ]:
        rows = generate_ids(Scripted([logits]), [[1]] * 100, max_new_tokens=1, temperature=1.0, **settings)  # type: ignore[arg-type]
        assert {row[0] for row in rows} == expected


@pytest.mark.parametrize("temperature", [1e-310, 1e-6, 1e6])
def test_extreme_temperatures_are_no_error(temperature: float) -> None:
    row = prefers(200, 201)
    found = generate_ids(Scripted([row]), [[1]] * 50, max_new_tokens=1, temperature=temperature)  # type: ignore[arg-type]
    assert ({token for (token,) in found} == {200}) == (temperature < 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_a_text_is_always_whole_characters(babbler: LanguageModel, temperature: float) -> None:
    streamed: dict[int, list[str]] = {row: [] for row in range(8)}

    def stream(row: int, piece: str) -> None:
        assert piece
        streamed[row].append(piece)

    prompts = ["", "The ", "中文", "é"] * 2
    texts = generate(babbler, prompts, max_new_tokens=60, temperature=temperature, seed=1, stream=stream)
    for row, text in enumerate(texts):
        assert "�" not in text
        assert "".join(streamed[row]) == text == text.encode().decode()
        assert not any(special in text for special in SPECIAL_TOKENS)
    if temperature:
        assert any(ord(character) > 0x7FF for text in texts for character in text)


def test_the_text_is_that_of_the_ids(babbler: LanguageModel) -> None:
    ids = [EOS, *TOKENIZER.encode("The ").ids]
    table = torch.from_numpy(next_states(babbler.pieces, eos=EOS))
    (new,) = generate_ids(babbler.model, [ids], max_new_tokens=30, temperature=1.0, seed=9, eos=EOS, allowed=table)
    (text,) = generate(babbler, "The ", max_new_tokens=30, seed=9)
    assert text == TOKENIZER.decode(new).rstrip("�")


def test_neither_half_characters_nor_special_tokens_are_chosen() -> None:
    bos = SPECIAL_TOKENS.index("<bos>")
    lead, continuation = ID[b"\xe4"], ID[b"\xbd"]
    wishes = [
        prefers(bos, PAD, continuation, lead),  # only the last one may begin a character
        prefers(EOS, lead, ID[b"a"], continuation),  # a character has begun
        prefers(EOS, lead, ID[b"a"], ID[b"\xa0"]),
        prefers(bos, EOS),
    ]
    assert generate(scripted(wishes), "x", max_new_tokens=9, temperature=0) == ["你"]


def test_a_character_that_the_limit_cuts_is_dropped() -> None:
    streamed: list[str] = []
    script = [ID[b"a"], ID[b"\xe4"], ID[b"\xbd"]]
    (text,) = generate(
        scripted(script), "x", max_new_tokens=3, temperature=0, stream=lambda _, piece: streamed.append(piece)
    )
    assert text == "a"
    assert streamed == ["a"]


@given(
    tokens=st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab", "文字".encode()]), max_size=12),
    stop=st.lists(st.text("ab文字", min_size=1, max_size=4), max_size=3),
)
def test_a_text_ends_before_the_first_stop_string_that_is_complete(tokens: list[bytes], stop: list[str]) -> None:
    whole = b"".join(tokens).decode()
    ends = [(whole.index(s) + len(s), whole.index(s)) for s in stop if s in whole]
    expected = whole[: min(ends)[1]] if ends else whole
    streamed: list[str] = []
    model = scripted([*(ID[token] for token in tokens), EOS])
    (text,) = generate(
        model, "x", max_new_tokens=20, temperature=0, stop=stop, stream=lambda _, piece: streamed.append(piece)
    )
    assert text == expected
    assert "".join(streamed) == expected  # so nothing of a stop string was shown before it was complete


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    streamed: list[str] = []
    script = [ID[token] for token in (b"a", b"b", b"b", b"a", b"a", b"b")]
    generate(scripted([*script, EOS]), "x", temperature=0, stop="aba", stream=lambda _, piece: streamed.append(piece))
    assert streamed == ["abb", "a", "ab"]


def test_a_stopped_row_leaves_the_others_alone(babbler: LanguageModel) -> None:
    prompts = ["one", "two", "three"]
    free = generate(babbler, prompts, max_new_tokens=40, seed=2)
    word = free[1][5:7]
    stopped = generate(babbler, prompts, max_new_tokens=40, seed=2, stop=word)
    assert stopped == [text.split(word)[0] for text in free]
    assert stopped[1] != free[1]


def test_a_prompt_begins_a_document_and_keeps_its_end_when_it_is_too_long(babbler: LanguageModel) -> None:
    ids = TOKENIZER.encode("a long prompt, longer than the context").ids
    table = torch.from_numpy(next_states(babbler.pieces, eos=EOS))
    settings = {"max_new_tokens": 8, "temperature": 1.0}
    (text,) = generate(babbler, "a long prompt, longer than the context", **settings)
    (new,) = generate_ids(babbler.model, [ids[-12:]], allowed=table, eos=EOS, **settings)
    assert text == TOKENIZER.decode(new).rstrip("�")
    (text,) = generate(babbler, "ab", **settings)
    (new,) = generate_ids(babbler.model, [[EOS, *TOKENIZER.encode("ab").ids]], allowed=table, eos=EOS, **settings)
    assert text == TOKENIZER.decode(new).rstrip("�")


def test_the_tokenizer_adds_nothing_to_a_prompt(babbler: LanguageModel) -> None:
    adding = from_json(TOKENIZER.to_str().encode())
    adding.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", EOS)]
    )
    assert len(adding.encode("ab").ids) == 3
    model = replace(babbler, tokenizer=adding)
    assert generate(model, "ab", max_new_tokens=9) == generate(babbler, "ab", max_new_tokens=9)


def test_a_special_token_in_a_prompt_is_text(babbler: LanguageModel) -> None:
    assert generate(babbler, "<eos>", max_new_tokens=5) != generate(babbler, "", max_new_tokens=5)


def test_nothing_asked_nothing_said(babbler: LanguageModel) -> None:
    assert generate(babbler, ["a", "b"], max_new_tokens=0) == ["", ""]
    assert generate(babbler, [], max_new_tokens=5) == []
    assert len(generate(babbler, "one prompt", max_new_tokens=5)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": ["a", ""]}, 'a stop string is ""'),
        ({"prompts": "\udcff"}, "not Unicode text"),
    ],
)
def test_settings_that_cannot_be_are_refused(babbler: LanguageModel, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generate(babbler, **{"prompts": "x"} | settings)


def test_a_prompt_without_ids_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="prompt 1 has no ids"):
        generate_ids(decoder, [[1], []], max_new_tokens=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_model_that_diverged_is_named(bad: float) -> None:
    logits = torch.zeros(SIZE)
    logits[150] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(CorpusmillError, match="not finite"):
            generate(scripted([logits]), "x", temperature=temperature)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_folder_is_read_with_its_tokenizer(tmp_path: Path, babbler: LanguageModel, dtype: torch.dtype | None) -> None:
    write_model(Files(tmp_path), "", babbler.model, TOKENIZER.to_str().encode(), eos="<eos>")
    model = load_model(str(tmp_path), device="cpu", dtype=dtype)
    assert (model.eos, model.pad, model.context) == (EOS, PAD, 12)
    assert {parameter.dtype for parameter in model.model.parameters()} == {dtype or torch.float32}
    texts = generate(model, ["<eos>", "文"], max_new_tokens=20, seed=8)
    if dtype is None:
        assert texts == generate(babbler, ["<eos>", "文"], max_new_tokens=20, seed=8)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no model at"):
        load_model(str(tmp_path))


def test_a_model_in_bf16_generates() -> None:
    (new,) = generate_ids(make_decoder(50).bfloat16(), [[1, 2]], max_new_tokens=20)
    assert len(new) == 20


def test_a_model_that_has_generated_can_be_trained() -> None:
    decoder = make_decoder(50)
    generate_ids(decoder, [[1, 2]], max_new_tokens=40, context=30)
    decoder(torch.ones(1, 20, dtype=torch.int64)).sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())
