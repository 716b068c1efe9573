"""Text from a model: continuations of prompts, sampled or greedy, that are always whole UTF-8 characters."""

import codecs
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from corpusmill.schemas.errors import CorpusmillError, UsageError
from corpusmill.schemas.tokens import from_json, special_ids
from corpusmill.train.checkpoint import find_config, find_model
from corpusmill.train.hardware import pick_device
from corpusmill.train.model.decoder import Decoder
from corpusmill.train.model.folder import read_model
from corpusmill.train.model.kv_cache import KVCache
from corpusmill.train.utf8 import ILLEGAL, START, next_states, token_bytes

__all__ = ["LanguageModel", "generate", "generate_ids", "load_model"]

_NUCLEUS = 64
"""Most probable tokens among which the nucleus is looked for first, before more of the vocabulary is sorted."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A decoder with what turns text into its ids and back.

    Attributes:
        model: the decoder.
        tokenizer: loaded so that no text produces a special id (`schemas.tokens.from_json`).
        eos: id that precedes and ends each document.
        pad: id of padding.
        context: most tokens the model looks back on, those it was trained with.
    """

    model: Decoder
    tokenizer: Tokenizer
    eos: int
    pad: int
    context: int

    @cached_property
    def pieces(self) -> list[bytes | None]:
        """The bytes of each token (see `utf8.token_bytes`)."""
        return token_bytes(self.tokenizer, self.model.config.vocab_size)

    @cached_property
    def legal(self) -> Tensor:
        """Which tokens may follow, int8[N_STATES, V] (see `utf8.next_states`)."""
        return torch.from_numpy(next_states(self.pieces, eos=self.eos))


def load_model(location: str, *, device: str = "auto", dtype: torch.dtype | None = None) -> LanguageModel:
    """Read a model for generation.

    Args:
        location: a run (its newest checkpoint), one of its step-N folders, or a model folder; paths or fsspec URLs.
        device: auto, cpu, cuda or mps.
        dtype: of weights and products, such as torch.bfloat16; None: float32.

    Raises:
        UsageError: no model there, one that is not computed here, or no such device.
        SchemaError: a folder that is damaged.
    """
    folder = read_model(find_model(location))
    tokenizer = from_json(folder.tokenizer_json)
    config = find_config(location)
    trained = None if config is None else config.data.sequence_length
    decoder = folder.decoder.to(device=pick_device(device), dtype=dtype)
    _lay_out(decoder)
    return LanguageModel(
        model=decoder,
        tokenizer=tokenizer,
        eos=folder.eos,
        pad=special_ids(tokenizer).get("<pad>", folder.eos),
        context=min(trained or decoder.config.max_length, decoder.config.max_length),
    )


def _lay_out(decoder: Decoder) -> None:
    """Store tall matrices column by column: torch's fp32 product of few rows is 1.3 times as fast on a CPU then.

    A step of generation is such products and little else. Shapes and values stay.
    """
    for parameter in decoder.parameters():
        is_plain = parameter.device.type == "cpu" and parameter.dtype == torch.float32
        if is_plain and parameter.ndim == 2 and parameter.shape[0] >= parameter.shape[1]:
            parameter.data = parameter.data.t().contiguous().t()


def generate(
    model: LanguageModel,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: str | Sequence[str] = (),
    seed: int = 0,
    stream: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Continue prompts, all in one batch.

    A prompt is read as the beginning of a document. Tokens that would make the bytes illegal UTF-8, and special
    tokens other than <eos>, are never chosen, whatever the model says; a character that the last token left
    incomplete is dropped. See `generate_ids` for the rules of sampling, seeds and long texts.

    Args:
        model: the model.
        prompts: one or more; "" for a text from its beginning.
        max_new_tokens: most tokens of a continuation; it may be more than the model's context.
        temperature: divides the logits; 0 takes the most probable token.
        top_k: sample among that many most probable tokens.
        top_p: sample from the nucleus of that probability.
        stop: a continuation ends before the first of these strings to be complete in it.
        seed: of the draws.
        stream: called with the number of the prompt and each new piece of its continuation, whole characters;
            the pieces add up to what is returned.

    Returns:
        The continuations, without the prompts.

    Raises:
        UsageError: a value out of its range, a prompt that is no Unicode text, or a kind of tokenizer that is not
            known (`utf8.token_bytes`).
        CorpusmillError: the model's logits are not finite.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    stop = [stop] if isinstance(stop, str) else stop
    if "" in stop:
        raise UsageError('a stop string is "": every text begins with it; give one with a character, or none')
    texts = [_Continuation(stop, partial(stream, row) if stream else None) for row in range(len(prompts))]
    pieces = model.pieces

    def accept(row: int, token: int) -> bool:
        return texts[row].add(pieces[token] or b"")

    generate_ids(
        model.model,
        [[model.eos, *_encode(model.tokenizer, prompt)] for prompt in prompts],
        max_new_tokens=max_new_tokens,
        context=model.context,
        eos=model.eos,
        pad=model.pad,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        allowed=model.legal,
        accept=accept,
    )
    return [text.finish() for text in texts]


@torch.inference_mode()
def generate_ids(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    context: int | None = None,
    eos: int | None = None,
    pad: int = 0,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    allowed: Tensor | None = None,
    accept: Callable[[int, int], bool] | None = None,
) -> list[list[int]]:
    """Continue sequences of ids.

    A draw takes the temperature first, then `top_k`, then the nucleus of what is left: the smallest set of most
    probable tokens with a probability of at least `top_p` together (Holtzman et al. 2020, section 3.1). Tokens as
    probable as the last one of a set belong to it.

    Each row draws from a generator of its own, keyed by the seed and the number of the row. So the same prompts and
    seed give the same output; prompts added behind a row do not change it, and a smaller `max_new_tokens` gives a
    prefix; both up to the rounding of logits, which depends on the shape of the batch.

    A prompt longer than `context` is cut to its last `context` tokens. When a row has filled the context, the model
    reads the last half of it again, as if nothing had been before, and goes on.

    Args:
        decoder: the model; its device and dtype are used.
        prompts: ids, at least one each.
        max_new_tokens: most ids a row.
        context: most tokens the model looks back on; None: what it was trained with.
        eos: id that ends a row; None: none does.
        pad: id before rows that are shorter than others; the model does not see it.
        temperature: divides the logits; 0 takes the largest, the first of equal ones.
        top_k: as above; None: all.
        top_p: as above; None: all.
        seed: at least 0.
        allowed: int8[S, V], the state after each token in each state, `ILLEGAL` where it may not be chosen; a row
            begins in `START`. None: all may.
        accept: called with row and id of each new token but <eos>, in the order of rows; False ends the row.

    Returns:
        The new ids of each row, without the <eos> that ended it.

    Raises:
        UsageError: a value out of its range.
        ValueError: a prompt without ids.
        CorpusmillError: the logits are not finite.
    """
    _check(max_new_tokens, temperature, top_k, top_p, seed)
    if empty := [row for row, prompt in enumerate(prompts) if not prompt]:
        raise ValueError(f"prompt {empty[0]} has no ids, expected at least one")
    context = decoder.config.max_length if context is None else context
    windows = [list(prompt[-context:]) for prompt in prompts]
    new: list[list[int]] = [[] for _ in prompts]
    draws = (
        [] if temperature == 0 else [np.random.Generator(np.random.PCG64([seed, row])) for row in range(len(prompts))]
    )
    illegal = None if allowed is None else allowed == ILLEGAL
    states = torch.full((len(prompts),), START)
    live = set(range(len(prompts)))
    rows: list[int] = []
    cache: KVCache | None = None
    for step in range(max_new_tokens):
        if not live:
            break
        if cache is None or cache.length == cache.max_length or 2 * len(live) <= len(rows):
            rows = sorted(live)
            for row in rows:
                if len(windows[row]) > context:
                    windows[row] = windows[row][-max(1, context // 2) :]
            capacity = min(context, max(len(windows[row]) for row in rows) + max_new_tokens - step)
            ids, cache = _fresh(decoder, [windows[row] for row in rows], capacity, pad)
        else:
            ids = torch.tensor([windows[row][-1:] for row in rows])
        hidden = decoder.hidden(ids.to(decoder.model.embed_tokens.weight.device), cache=cache)
        # On the CPU every device draws the same from the same logits, and in float64, which MPS does not have.
        logits = decoder.logits(hidden[:, -1]).float().cpu()
        if illegal is not None:
            logits.masked_fill_(illegal[states[rows]], -math.inf)
        # A live row is among `rows` at every step, so the number of its draws is that of its tokens.
        uniform = torch.tensor([draws[row].random() for row in rows], dtype=torch.float64) if draws else None
        chosen = _choose(logits, uniform, temperature, top_k, top_p)
        if allowed is not None:
            states[rows] = allowed[states[rows], chosen].long()
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if row not in live:
                continue
            if token == eos:
                live.remove(row)
                continue
            new[row].append(token)
            windows[row].append(token)
            if accept is not None and not accept(row, token):
                live.remove(row)
    return new


def _fresh(decoder: Decoder, windows: Sequence[Sequence[int]], capacity: int, pad: int) -> tuple[Tensor, KVCache]:
    """Rows to be read from their beginning, padded on the left, int64[B, T], and a cache of `capacity` slots."""
    length = max(len(window) for window in windows)
    ids = torch.tensor([[pad] * (length - len(window)) + list(window) for window in windows])
    start = torch.tensor([length - len(window) for window in windows])
    weight = decoder.model.embed_tokens.weight
    cache = KVCache(decoder.config, len(windows), capacity, dtype=weight.dtype, device=weight.device, start=start)
    return ids, cache


def _choose(
    logits: Tensor, uniform: Tensor | None, temperature: float, top_k: int | None, top_p: float | None
) -> Tensor:
    """One token a row by inversion of the distribution function, in the order of ids.

    Args:
        logits: float32[B, V], -inf where a token may not be chosen.
        uniform: float64[B], 0 <= u < 1; None: take the most probable token.
        temperature: see `generate_ids`, as for the others; above 0 where there are draws.
        top_k: see there.
        top_p: see there.

    Returns:
        int64[B].
    """
    largest, most_probable = logits.max(-1, keepdim=True)
    if not largest.isfinite().all():
        raise CorpusmillError("the model's logits are not finite, so no token can be chosen: the training diverged")
    if uniform is None:
        return most_probable[:, 0]
    if top_k is not None and top_k < logits.shape[1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -math.inf)
    p = ((logits - largest).double() / temperature).softmax(-1)
    if top_p is not None and top_p < 1:
        p.masked_fill_(p < _nucleus(p, top_p), 0.0)
    cumulative = p.cumsum(-1)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    """The least probability within the nucleus, float64[B, 1]; sorts no more of the vocabulary than it must."""
    n = min(_NUCLEUS, p.shape[1])
    while True:
        top = p.topk(n).values
        cumulative = top.cumsum(-1)
        if n == p.shape[1] or bool((cumulative[:, -1] >= top_p).all()):
            break
        n = min(8 * n, p.shape[1])
    return top.gather(-1, (cumulative < top_p).sum(-1, keepdim=True).clamp_(max=n - 1))


class _Continuation:
    """The text of a row as its tokens arrive: whole characters, and nothing that may turn out to be a stop string."""

    def __init__(self, stop: Sequence[str], emit: Callable[[str], None] | None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._stop = stop
        self._emit = emit
        self._released: list[str] = []
        self._held = ""

    def add(self, piece: bytes) -> bool:
        """Take the bytes of a token; False when a stop string is complete."""
        self._held += self._decoder.decode(piece)
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self._release(min(found)[1])
            self._held = ""
            return False
        self._release(len(self._held) - self._n_beginning())
        return True

    def finish(self) -> str:
        """Release what was held back, and the whole text."""
        self._release(len(self._held))
        return "".join(self._released)

    def _n_beginning(self) -> int:
        """Characters at the end of what is held that begin a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        lengths = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self._held[-n:]) for stop in self._stop)), 0)

    def _release(self, n: int) -> None:
        if n:
            self._released.append(self._held[:n])
            if self._emit is not None:
                self._emit(self._held[:n])
            self._held = self._held[n:]


def _encode(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt.

    Raises:
        UsageError: it has half a surrogate pair, as an argument in another encoding than the terminal's has.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the prompt {prompt!r} is not Unicode text ({error.reason}); give it in UTF-8") from error
    return list(tokenizer.encode(prompt, add_special_tokens=False).ids)


def _check(max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None, seed: int) -> None:
    """Refuse settings that no sampling has."""
    if max_new_tokens < 0:
        raise UsageError(f"max_new_tokens is {max_new_tokens}; give a number of tokens, 0 or more")
    if not 0 <= temperature < math.inf:
        raise UsageError(f"temperature is {temperature}; give 0 for the most probable token, or a number above 0")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k is {top_k}; give a number of tokens, 1 or more, or leave it out for all")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; give a probability above 0 and at most 1, or leave it out")
    if seed < 0:
        raise UsageError(f"seed is {seed}; give a whole number, 0 or more")
