"""The recipe: one YAML file that says what goes in and what is kept, checked whole before any work starts.

Fields that a later release fills in are reserved with their only legal value (`pii: none`), so that a recipe
that asks for them fails at once instead of silently doing nothing.
"""

from typing import Annotated, Any, Literal

import langcodes
from langcodes.tag_parser import LanguageTagError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from corpusmill.schemas.source import Source

__all__ = [
    "Dedup",
    "Edits",
    "Extract",
    "Fetch",
    "Language",
    "Limits",
    "MinHash",
    "Quality",
    "Recipe",
    "Shards",
    "TokenizerChoice",
    "TokenizerTraining",
    "language_tag",
]

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def _parse_bytes(value: Any) -> Any:
    if isinstance(value, str):
        for unit, factor in _UNITS.items():
            if value.endswith(unit):
                try:
                    return int(float(value.removesuffix(unit)) * factor)
                except (ValueError, OverflowError):
                    break
        if not value.isdigit():
            raise ValueError(f"write a number of bytes, or one with a unit of {', '.join(_UNITS)}, such as 16MiB")
    return value


Bytes = Annotated[int, BeforeValidator(_parse_bytes), Field(gt=0)]
ShardBytes = Annotated[int, BeforeValidator(_parse_bytes), Field(gt=0, le=1 << 30)]
"""A number of bytes: `1048576` or `1MiB`."""

NoneWord = Literal["none"]

_MACRO = {"nb": "no"}  # the models that we use know Norwegian without telling Bokmål from Nynorsk


def language_tag(value: str) -> str:
    """The BCP 47 tag of any alias: `eng` and `en-Latn` give `en`, `zh-TW` and `cmn-Hant` give `zh-Hant`.

    Raises:
        ValueError: not a language tag.
    """
    try:
        language = langcodes.Language.get(value, normalize=True).prefer_macrolanguage()
    except LanguageTagError as error:
        raise ValueError(
            f"{value!r} is not a language tag; write a BCP 47 tag such as en, zh, zh-Hant or pt"
        ) from error
    if language.language is None or not language.is_valid():
        raise ValueError(f"{value!r} is not a known language; write a BCP 47 tag such as en, zh, zh-Hant or pt")
    if language.language != "zh":
        return _MACRO.get(language.language, language.language)
    if language.script is None and language.territory is None:
        return "zh"
    return f"zh-{language.maximize().script}"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fetch(_Model):
    """How files are downloaded. Nothing here changes what is read.

    Attributes:
        connections: most connections to one host at a time, over all workers together.
        requests_per_second: most requests to one host, over all workers together.
        retries: how often a request that failed is tried again, with growing pauses, before the run gives up.
        stall_seconds: a connection that brings nothing for so long has failed.
        user_agent: how we introduce ourselves; default: corpusmill/VERSION. Say who you are, with an address.
    """

    connections: Annotated[int, Field(ge=1, le=64)] = 4
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 4.0
    retries: Annotated[int, Field(ge=0, le=100)] = 8
    stall_seconds: Annotated[float, Field(gt=0)] = 60.0
    user_agent: Annotated[str, Field(min_length=1, pattern=r"^[\x20-\x7e]+$")] | None = None


class Limits(_Model):
    """What a single record may grow to; more is one damaged record, and what follows is read.

    Attributes:
        record_bytes: largest content.
        ratio: most by which a compressed record of more than 1 MiB may grow.
    """

    record_bytes: Bytes = 64 << 20
    ratio: Annotated[int, Field(ge=1)] = 1000


class Extract(_Model):
    """How HTML becomes text. `fast`: resiliparse's main-content heuristics."""

    method: Literal["fast"] = "fast"


def _keep_tags(value: Any) -> Any:
    if value == "any" or not isinstance(value, list):
        return value
    return list(dict.fromkeys(language_tag(str(item)) for item in value))


class Language(_Model):
    """Which languages stay.

    Attributes:
        keep: any, or a list of tags; `zh` keeps both scripts, `zh-Hant` one.
        min_score: least probability of the identified language, 0 to 1; short texts score low, so 0 by default.
        model: a fasttext model file; default: the packaged lid.176.ftz.
    """

    keep: Annotated[Literal["any"] | Annotated[list[str], Field(min_length=1)], BeforeValidator(_keep_tags)] = "any"
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    model: str | None = None

    def keeps(self, tag: str) -> bool:
        """Whether documents of a language stay."""
        return self.keep == "any" or tag in self.keep or tag.partition("-")[0] in self.keep


class Quality(_Model):
    """Which documents the heuristics drop.

    Attributes:
        preset: a named, frozen set of rules, or none.
        thresholds: other numbers for some of the preset's rules, by rule name.
    """

    preset: str = "gopher"
    thresholds: dict[str, float] = {}

    @model_validator(mode="after")
    def _thresholds_need_a_preset(self) -> "Quality":
        if self.thresholds and self.preset == "none":
            raise ValueError("thresholds change rules of a preset, but preset is none: name one or remove them")
        return self


class Edits(_Model):
    """Changes to the text of documents that stay.

    Attributes:
        lines: `prose` keeps only lines of running text; none.
        script: `document` drops lines written in another script than the document's language is, such as English
            paragraphs of a Chinese page; none.
        script_share: least part of a line's letters in that script, 0 to 1, where a Latin letter counts a twelfth of
            a Chinese one: half spares sentences full of names and commands, .95 keeps two Latin letters for three
            Chinese ones.
        shared_lines: reserved for lines that many documents share.
    """

    lines: Literal["prose", "none"] = "none"
    script: Literal["document", "none"] = "none"
    script_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    shared_lines: NoneWord = "none"


class MinHash(_Model):
    """Near duplicates by MinHash and banding; a pair is caught with probability 1 - (1 - J^rows)^bands.

    Attributes:
        bands: groups of hashes; a pair becomes a candidate when one group agrees.
        rows: hashes a band.
        ngram: tokens a shingle.
        seed: of the permutations.
        threshold: least Jaccard similarity, estimated from the signatures, for a document to be dropped.
    """

    bands: Annotated[int, Field(ge=1, le=256)] = 20
    rows: Annotated[int, Field(ge=1, le=64)] = 8
    ngram: Annotated[int, Field(ge=1, le=64)] = 5
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 1
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.75


class Dedup(_Model):
    """Which copies go; inside a group of copies the steps run in the order record, url, exact, near.

    Attributes:
        url: which page of one URL stays, or none.
        exact: drop documents of equal normalised text.
        minhash: near duplicates, or none.
        quality: signal by which the best copy is chosen (higher is better); none: length decides.
    """

    url: Literal["newest", "oldest", "longest", "none"] = "newest"
    exact: bool = True
    minhash: MinHash | NoneWord = MinHash()
    quality: str = "none"


class TokenizerTraining(_Model):
    """Byte-level BPE trained on a hash sample of the train split.

    Attributes:
        vocab_size: entries, special tokens and the 256 bytes included.
        max_bytes: of UTF-8 text that the trainer sees.
    """

    vocab_size: Annotated[int, Field(ge=512, le=1 << 20)] = 32_768
    max_bytes: Bytes = 256 << 20


class TokenizerChoice(_Model):
    """Exactly one of `train` and `path`.

    Attributes:
        train: settings for one trained on this dataset.
        path: a tokenizer.json of the tokenizers library.
        eos: its token that ends a document.
    """

    train: TokenizerTraining | None = None
    path: str | None = None
    eos: str = "<eos>"

    @model_validator(mode="after")
    def _one_of_two(self) -> "TokenizerChoice":
        if (self.train is None) == (self.path is None):
            raise ValueError("give exactly one of `train: {vocab_size: N}` and `path: tokenizer.json`")
        if self.train is not None and self.eos != "<eos>":
            raise ValueError("eos belongs to `path`; a trained tokenizer has <eos>")
        return self


def _fractions(value: dict[str, float]) -> dict[str, float]:
    if sum(value.values()) >= 1:
        raise ValueError(f"the held-out shares sum to {sum(value.values())}; leave something for train")
    return value


class Shards(_Model):
    """The dataset folder.

    Attributes:
        target_bytes: UTF-8 text a shard aims at, at most 1 GiB; a worker holds a shard in memory.
        text: whether shards carry the text beside the ids.
        splits: share of documents held out, by split; the rest is train.
    """

    target_bytes: ShardBytes = 128 << 20
    text: bool = True
    splits: Annotated[
        dict[Literal["validation", "test"], Annotated[float, Field(ge=0, lt=1)]], AfterValidator(_fractions)
    ] = {"validation": 0.01}


class Recipe(_Model):
    """A whole run, from sources to shards; every field but `sources` has a default.

    Attributes:
        name: of the dataset; stands in its card.
        sources: in order of priority: of equal copies the one from the earlier source stays.
        unit_bytes: size that a slice of a splittable file aims at, in its compressed form.
        fetch: manners towards servers.
        limits: of single records.
        extract: HTML to text.
        language: identification and choice.
        quality: rules.
        edits: changes to the text.
        pii: reserved.
        dedup: copies; none lets all through but repeated ids.
        tokenizer: trained here or given.
        shards: output.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "corpus"
    sources: Annotated[list[Source], Field(min_length=1)]
    unit_bytes: Bytes = 16 << 20
    fetch: Fetch = Fetch()
    limits: Limits = Limits()
    extract: Extract = Extract()
    language: Language = Language()
    quality: Quality = Quality()
    edits: Edits = Edits()
    pii: NoneWord = "none"
    dedup: Dedup | NoneWord = Dedup()
    tokenizer: TokenizerChoice = TokenizerChoice(train=TokenizerTraining())
    shards: Shards = Shards()

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Recipe":
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; ids hold the source's name, so give each its own")
        return self

    def without_paths(self) -> dict[str, Any]:
        """The recipe as it stands in a manifest: nothing in it names folders of a machine, or servers."""
        data = self.model_dump(mode="json")
        for source in data["sources"]:
            for field in ("paths", "root", "records", "base_urls"):
                source.pop(field, None)
        del data["fetch"]
        data["tokenizer"].pop("path")
        data["language"].pop("model")
        return data
