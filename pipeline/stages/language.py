"""The language of a text as a BCP 47 tag with a score.

fastText's lid.176 model (Joulin et al. 2016, arXiv:1607.01759) on the first letters of the text: URLs, e-mail
addresses, digits and punctuation are not language, and 500 letters suffice (.999 on 30 major languages; all of a page
costs ten times as much). Short texts score low whatever their language, so no cut of the score suits all lengths.

The model knows one label for Chinese. Its script, ``zh-Hans`` or ``zh-Hant``, follows from characters that only one
of the two writes; without any, or with as many of both, it is ``zh-Hans``. Cantonese (``yue``) and Wu (``wuu``) keep
their labels. The model takes one in thirty short Chinese texts for Japanese; Han characters without kana are Chinese.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import fasttext
import langcodes
import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.schemas.errors import UsageError

__all__ = ["MODEL_SHA256", "LanguageSettings", "identify", "model_digest"]

STAGE_VERSION = 1

MODEL_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
"""Of the packaged model, lid.176.ftz (CC-BY-SA-3.0, https://fasttext.cc/docs/en/language-identification.html)."""

SCAN_CHARS = 4_000
"""Letters are looked for in this many characters from the start."""

SAMPLE_CHARS = 600
"""The model sees this many characters of them, about 500 letters and the spaces between their words."""

UNDETERMINED = "und"

_ADDRESS = r"(?:https?://|www\.)[!-~]+|[\w.+-]+@[\w-]+\.[\w.-]+"  # ASCII only: Chinese goes on without a space
_OTHER = r"[^\p{L}\p{M}\x{200c}\x{200d}]+"  # the joiners are part of Persian and Indic words

_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")
_HAN = re.compile("[\u4e00-\u9fff]")

# Codes of Wikipedias, which the labels of lid.176 are, that mean something else in BCP 47, or nothing.
_WIKIPEDIA_CODES = {"als": "gsw", "bh": "bho", "eml": "egl"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageSettings:
    """Which model identifies languages.

    Attributes:
        model: path of a fastText model whose labels are language tags, with or without ``__label__``, such as
            ``eng_Latn``; None for the packaged lid.176.ftz.
    """

    model: str | None = None


def identify(texts: pa.Array, settings: LanguageSettings) -> tuple[pa.Array, pa.Array]:
    """Identify the language of each text.

    Args:
        texts: string or large_string, shape (n,).
        settings: see `LanguageSettings`.

    Returns:
        language: string, shape (n,): BCP 47 tags; ``und`` for a text without letters, null for null.
        score: float64, shape (n,): probability of the language, 0 to 1, rounded to 6 decimals; 0 for ``und``,
            null for null.

    Raises:
        UsageError: the model cannot be loaded, or a label of it is no language tag.
    """
    model, tags = _model(settings.model)
    samples = _samples(texts).to_pylist()
    rows = [i for i, sample in enumerate(samples) if sample]
    languages = [None if sample is None else UNDETERMINED for sample in samples]
    scores = [None if sample is None else 0.0 for sample in samples]
    labels, probabilities = model.predict([samples[i] for i in rows]) if rows else ((), ())
    for i, (label,), (probability,) in zip(rows, labels, probabilities, strict=True):
        languages[i] = _refined(tags[label], samples[i])
        scores[i] = min(1.0, round(float(probability), 6))  # fastText's softmax sums to a little more than 1
    return pa.array(languages, pa.string()), pa.array(scores, pa.float64())


def model_digest(settings: LanguageSettings) -> str:
    """The sha256, in hex, of the model and the table of Chinese characters: a change of either changes labels.

    Raises:
        UsageError: the model cannot be read.
    """
    try:
        model = Path(_path(settings.model)).read_bytes()
    except OSError as error:
        raise UsageError(f"language model {settings.model!r} cannot be read: {error}") from error
    return hashlib.sha256(model + _data("han-script.json").read_bytes()).hexdigest()


def _samples(texts: pa.Array) -> pa.Array:
    """The first letters of each text, words separated by single spaces; "" if there is none."""
    start = pc.utf8_slice_codeunits(texts, 0, SCAN_CHARS)
    words = pc.replace_substring_regex(pc.replace_substring_regex(start, _ADDRESS, " "), _OTHER, " ")
    sample = pc.utf8_slice_codeunits(pc.utf8_trim(words, " "), 0, SAMPLE_CHARS)
    return pc.if_else(pc.match_substring_regex(sample, r"\p{L}"), sample, "")


def _refined(tag: str, sample: str) -> str:
    """The tag with what characters tell better than the model: Chinese or Japanese, and the script of Chinese."""
    if tag == "ja" and _HAN.search(sample) and not _KANA.search(sample):
        tag = "zh"
    if tag != "zh":
        return tag
    hans, hant = _han_characters()
    n_hans = sum(character in hans for character in sample)
    n_hant = sum(character in hant for character in sample)
    return "zh-Hant" if n_hant > n_hans else "zh-Hans"


@cache
def _han_characters() -> tuple[frozenset[str], frozenset[str]]:
    """The characters that only simplified and that only traditional Chinese writes."""
    table = json.loads(_data("han-script.json").read_text(encoding="utf-8"))
    return frozenset(table["Hans"]), frozenset(table["Hant"])


@cache
def _model(path: str | None) -> tuple[Any, dict[str, str]]:
    """A model, once a process, and the language tag of each of its labels."""
    try:
        model = fasttext.load_model(_path(path))
        return model, {label: _tag(label) for label in model.get_labels()}
    except ValueError as error:  # of fastText, and LanguageTagError
        raise UsageError(
            f"language model {path!r} cannot be used: {error}; give the path of a fastText model (.bin or .ftz) "
            "whose labels are language tags, such as __label__en or __label__eng_Latn"
        ) from error


def _tag(label: str) -> str:
    """The BCP 47 tag of a label, in the form that recipes are brought to: see `schemas.recipe.language_tag`."""
    code = label.removeprefix("__label__")
    language = langcodes.Language.get(_WIKIPEDIA_CODES.get(code, code), normalize=True)
    tag = language.prefer_macrolanguage().simplify_script().to_tag()
    return "zh" if tag == "zh-Hani" else tag


def _path(model: str | None) -> str:
    return str(_data("lid.176.ftz")) if model is None else model


def _data(name: str) -> Any:
    return resources.files("corpusmill.pipeline").joinpath("data", name)
