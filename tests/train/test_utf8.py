"""The automaton agrees with Python's own decoder, and tokens stand for the bytes that the library decodes them to."""

import codecs
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpusmill.schemas.errors import UsageError
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json
from corpusmill.train.utf8 import ILLEGAL, N_STATES, START, next_states, step_table, token_bytes
from tests.corpus import prose
from tests.train.corpus import EOS, byte_tokenizer

REPLACEMENT = "�"


def walk(data: bytes) -> int:
    """State after some bytes, one at a time."""
    state = START
    for byte in data:
        state = int(step_table()[state, byte])
    return state


def python_accepts(data: bytes) -> tuple[bool, bool]:
    """Whether some text begins with these bytes, and whether they are a text, by Python's incremental decoder."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
        pending = decoder.getstate()[0]
        if len(pending) > 1:  # Python waits for the third byte of a surrogate before it refuses
            decoder.decode(b"\x80")
    except UnicodeDecodeError:
        return False, False
    return True, not pending


NEAR_UTF8 = st.lists(
    st.one_of(
        st.characters().filter(lambda c: not "\ud800" <= c <= "\udfff").map(str.encode),
        st.sampled_from([b"\x80", b"\xbf", b"\xc0", b"\xc2", b"\xe0", b"\xed", b"\xef", b"\xf0", b"\xf4", b"\xf5"]),
        st.binary(min_size=1, max_size=2),
    ),
    max_size=6,
).map(b"".join)


@given(NEAR_UTF8)
@example("\U0010ffff".encode())
@example(b"\xed\xa0\x80")  # a surrogate
@example(b"\xc0\x80")  # an overlong zero
@example(b"\xf4\x90\x80\x80")  # above U+10FFFF
def test_the_automaton_accepts_what_python_decodes(data: bytes) -> None:
    begins, whole = python_accepts(data)
    assert (walk(data) != ILLEGAL) == begins
    assert (walk(data) == START) == whole


def test_every_character_is_legal() -> None:
    characters = [chr(i).encode() for i in itertools.chain(range(0xD800), range(0xE000, 0x110000))]
    assert (next_states(characters, eos=None)[START] == START).all()


def test_every_beginning_of_two_and_three_bytes_is_judged_as_python_does() -> None:
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    beginnings = [bytes(pair) for pair in itertools.product(range(256), repeat=2)]
    beginnings += [bytes(three) for three in itertools.product(range(0xC0, 256), range(0x80, 0xC0), edges)]
    assert [walk(data) != ILLEGAL for data in beginnings] == [python_accepts(data)[0] for data in beginnings]


@given(st.lists(NEAR_UTF8.map(lambda data: data[:7]), min_size=1, max_size=6))
def test_a_token_leads_where_its_bytes_lead(pieces: list[bytes]) -> None:
    every_byte = [bytes([i]) for i in range(256)]  # with them, any character can be completed
    table = next_states([*pieces, *every_byte], eos=None)
    assert table.shape == (N_STATES, len(pieces) + 256)
    for state in range(N_STATES):
        for i, piece in enumerate(pieces):
            expected = state if piece else ILLEGAL  # a token of no bytes would go on for ever
            for byte in piece:
                expected = int(step_table()[expected, byte])
            assert table[state, i] == expected


def test_a_token_that_no_other_completes_is_illegal() -> None:
    without = next_states([b"a", b"\xe4"], eos=None)
    assert without[START].tolist() == [START, ILLEGAL]
    table = next_states([b"a", b"\xe4", b"\xe0", b"\x80"], eos=None)  # after E0 the first continuation byte is A0…BF
    assert (table[START] != ILLEGAL).tolist() == [True, True, False, False]


def test_eos_is_legal_between_characters_only_and_other_special_tokens_nowhere() -> None:
    tokenizer = from_json(byte_tokenizer())
    table = next_states(token_bytes(tokenizer, tokenizer.get_vocab_size()), eos=EOS)
    assert table[:, EOS].tolist() == [START] + [ILLEGAL] * (N_STATES - 1)
    others = [i for i in range(len(SPECIAL_TOKENS)) if i != EOS]
    assert (table[:, others] == ILLEGAL).all()
    as_text = next_states([b"a", b"\xc3", b"\xa9"], eos=2)  # as the end it has no bytes, whatever the tokenizer says
    assert as_text[:, 2].tolist() == [START] + [ILLEGAL] * (N_STATES - 1)


def byte_level(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def sentencepiece(texts: Sequence[str]) -> Tokenizer:
    """A BPE over characters with "▁" for the space and bytes for unknown characters, as Llama 2 has it."""
    letters = sorted(set("".join(texts[: len(texts) // 2]).replace(" ", "▁")))
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *letters, "▁t", "▁th"]
    vocab = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "t"), ("▁t", "h")], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)  # type: ignore[arg-type]
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


@pytest.mark.parametrize("kind", [byte_level, sentencepiece])
def test_tokens_stand_for_the_bytes_of_the_text(kind) -> None:
    texts = [*prose("en"), *prose("zh"), "naïve 𝄞 e\u0301 \t\n\u3000x"]
    tokenizer = kind(texts)
    tokenizer.add_tokens(["café 中", "ï"])  # the second one is a character of the byte alphabet, too
    size = tokenizer.get_vocab_size()
    pieces = token_bytes(tokenizer, size)
    table = next_states(pieces, eos=None)
    for text in [*texts, "a café 中 b"]:
        ids = tokenizer.encode(text).ids
        assert b"".join(pieces[i] or b"" for i in ids).decode() == text
        state = START
        for i in ids:
            state = int(table[state, i])
        assert state == START


def test_a_byte_level_token_decodes_as_the_library_does() -> None:
    tokenizer = byte_level([*prose("en"), *prose("zh")])
    for i, piece in enumerate(token_bytes(tokenizer, tokenizer.get_vocab_size())):
        if piece is not None:
            assert piece.decode(errors="replace") == tokenizer.decode([i]), i


def test_ids_that_the_tokenizer_lacks_have_no_bytes() -> None:
    tokenizer = from_json(byte_tokenizer())
    size = tokenizer.get_vocab_size()
    pieces = token_bytes(tokenizer, size + 3)
    assert pieces[size:] == [None, None, None]
    assert pieces[:size] == token_bytes(tokenizer, size)
    assert (next_states(pieces, eos=EOS)[:, size:] == ILLEGAL).all()
    assert len(token_bytes(tokenizer, size - 1)) == size - 1


@pytest.mark.parametrize(
    ("decoder", "named"),
    [
        (decoders.WordPiece(), "WordPiece"),
        (decoders.BPEDecoder(), "BPEDecoder"),
        (None, "nothing"),
        (decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()]), "Fuse and ByteLevel"),
    ],
)
def test_another_kind_of_tokenizer_is_refused_by_name(decoder, named: str) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    if decoder is not None:
        tokenizer.decoder = decoder
    with pytest.raises(UsageError, match=f"decodes by {named}; text is generated"):
        token_bytes(tokenizer, 1)
