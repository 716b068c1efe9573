"""A model's folder in the layout of Hugging Face's LlamaForCausalLM, written and read without transformers.

config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json, and README.md for the
model card. Any Llama-class folder can be read; what the decoder does not compute is refused, never ignored.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from corpusmill.schemas import tokens
from corpusmill.schemas.errors import SchemaError, UsageError
from corpusmill.schemas.files import FileInfo, Files
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder

__all__ = ["Dtype", "ModelFolder", "read_config", "read_model", "write_model", "write_tensors"]

Dtype = Literal["fp32", "bf16"]
"""Of saved weights."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_READABLE = (torch.float32, torch.bfloat16, torch.float16)
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        decoder: with its weights, in fp32 on the CPU.
        tokenizer_json: bytes of tokenizer.json.
        eos_token: the token that ends documents.
        eos: its id.
    """

    decoder: Decoder
    tokenizer_json: bytes
    eos_token: str
    eos: int


def write_tensors(files: Files, name: str, tensors: Mapping[str, Tensor]) -> FileInfo:
    """Publish tensors as a safetensors file.

    Args:
        files: where.
        name: of the file.
        tensors: by name, on any device; no two may share memory.

    A local file is on the disk, not in the system's memory only, before it has its name.
    """
    path = files.temporary_path()
    try:
        whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        safetensors.torch.save_file(whole, path, metadata={"format": "pt"})
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if files.is_local:
                os.fsync(file.fileno())
        info = FileInfo(name=name, sha256=sha256, n_bytes=path.stat().st_size)
        files.move_into_place(path, name)
    finally:
        path.unlink(missing_ok=True)
    return info


def write_model(
    files: Files,
    folder: str,
    decoder: Decoder,
    tokenizer_json: bytes,
    *,
    eos: str,
    card: str | None = None,
    dtype: Dtype = "fp32",
) -> list[FileInfo]:
    """Write a model folder; config.json comes last.

    <eos> is written as the token that begins a text, too: each document follows one, and <bos> was never trained.
    Special tokens are split, as by `tokens.from_json`: to transformers, too, "<eos>" in a text is plain text. Who needs
    the ids, as for a chat template, passes `split_special_tokens=False` to its tokenizer.

    Args:
        files: the root.
        folder: below it; "" for the root itself.
        decoder: the model.
        tokenizer_json: tokenizer.json, kept byte for byte.
        eos: the token that ends documents and precedes each.
        card: README.md; None for none.
        dtype: of the weights in the file.

    Returns:
        The files, in the order of writing.
    """
    ids = tokens.special_ids(tokens.from_json(tokenizer_json))
    if eos not in ids:
        raise UsageError(f"{eos!r} is no special token of the tokenizer; it has {', '.join(ids)}")
    pad = "<pad>" if "<pad>" in ids else eos
    special = {"bos_token_id": ids[eos], "eos_token_id": ids[eos], "pad_token_id": ids[pad]}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": decoder.config.max_length,
        "bos_token": eos,
        "eos_token": eos,
        "pad_token": pad,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    prefix = f"{folder}/" if folder else ""
    weights = {name: tensor.to(_DTYPES[dtype]) for name, tensor in decoder.state_dict().items()}
    written = [] if card is None else [files.write_bytes(f"{prefix}README.md", card.encode())]
    return [
        *written,
        files.write_bytes(f"{prefix}tokenizer.json", tokenizer_json),
        files.write_bytes(f"{prefix}tokenizer_config.json", _json(tokenizer_config)),
        files.write_bytes(f"{prefix}generation_config.json", _json(special)),
        write_tensors(files, prefix + _WEIGHTS, weights),
        files.write_bytes(f"{prefix}config.json", _json(_to_llama(decoder.config, dtype) | special)),
    ]


def read_config(location: str) -> ModelConfig:
    """Sizes of the model in a folder.

    Args:
        location: the folder, a local path or an fsspec URL.

    Raises:
        UsageError: no model folder, or a model that is not computed here.
        SchemaError: its config.json is not complete.
    """
    return _from_llama(_read_json(Files(location), "config.json"), location)


def read_model(location: str) -> ModelFolder:
    """Read a Llama-class model folder: ours, or any whose weights are safetensors, in one file or sharded.

    Args:
        location: the folder, a local path or an fsspec URL.

    Raises:
        UsageError: no model folder, or a model that is not computed here.
        SchemaError: the files do not fit each other.
    """
    files = Files(location)
    values = _read_json(files, "config.json")
    config = _from_llama(values, location)
    tokenizer_json = files.read_or_none("tokenizer.json")
    if tokenizer_json is None:
        raise SchemaError(f"{location} has no tokenizer.json: save it there with transformers' save_pretrained")
    eos: Any = values.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) and eos else eos  # chat models list several; the first ends a text
    try:
        tokenizer = tokens.from_json(tokenizer_json)
    except ValueError as error:
        raise SchemaError(f"{files.url('tokenizer.json')} is {error}") from error
    is_id = isinstance(eos, int) and 0 <= eos < config.vocab_size
    eos_token = tokenizer.id_to_token(eos) if is_id else None
    if eos_token is None:
        raise SchemaError(f"{files.url('config.json')}: eos_token_id is {eos!r}, expected an id of tokenizer.json")
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder.load_state_dict(_checked(_read_weights(files), decoder, location), assign=True)
    return ModelFolder(decoder=decoder, tokenizer_json=tokenizer_json, eos_token=eos_token, eos=eos)


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _read_json(files: Files, name: str) -> dict[str, Any]:
    data = files.read_or_none(name)
    if data is None:
        raise UsageError(f"{files.root} has no {name}; give a model folder with config.json and {_WEIGHTS}")
    try:
        values = json.loads(data)
    except ValueError as error:
        raise SchemaError(f"{files.url(name)} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise SchemaError(f"{files.url(name)} is not a JSON object")
    return values


# --- config.json

_NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "intermediate_size": "ffn_dim",
    "max_position_embeddings": "max_length",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tied",
}
"""Our name of each size by transformers' name."""

_DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_theta": 10000.0}
"""What transformers' LlamaConfig takes for a field that is not there, where it can be guessed."""


def _to_llama(config: ModelConfig, dtype: Dtype) -> dict[str, Any]:
    """The fields of LlamaConfig; rotary base and dtype under the names of transformers 4 and of 5."""
    dtype_name = str(_DTYPES[dtype]).removeprefix("torch.")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{theirs: getattr(config, ours) for theirs, ours in _NAMES.items()},
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "dtype": dtype_name,
        "torch_dtype": dtype_name,
    }


def _from_llama(values: dict[str, Any], location: str) -> ModelConfig:
    ropes = [_mapping(values, name, location) for name in ("rope_parameters", "rope_scaling")]
    acceptable: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("model_type", values.get("model_type"), ("llama",)),
        ("hidden_act", values.get("hidden_act"), ("silu", None)),
        ("attention_bias", values.get("attention_bias"), (False, None)),
        ("mlp_bias", values.get("mlp_bias"), (False, None)),
        ("sliding_window", values.get("sliding_window"), (None,)),
        ("quantization_config", values.get("quantization_config"), (None,)),
        *(("rope_type", rope.get(name), ("default", None)) for rope in ropes for name in ("rope_type", "type")),
        *(("partial_rotary_factor", each.get("partial_rotary_factor"), (1, None)) for each in (*ropes, values)),
    ]
    for name, value, expected in acceptable:
        if value not in expected:
            raise _not_computed(location, name, value, expected[0])
    rope = ropes[1] or ropes[0]  # of both, transformers takes this one
    given = {name: value for name, value in values.items() if value is not None}
    merged: dict[str, Any] = _DEFAULTS | {"num_key_value_heads": values.get("num_attention_heads")} | given
    missing = [name for name in _NAMES if merged.get(name) is None]
    if missing:
        raise SchemaError(f"{location}/config.json has no {', '.join(missing)}")
    sizes = {ours: merged[theirs] for theirs, ours in _NAMES.items()}
    try:
        config = ModelConfig(**sizes, rope_theta=rope.get("rope_theta", merged["rope_theta"]))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))} {p['msg']}".strip() for p in error.errors())
        raise SchemaError(f"{location}/config.json: {problems}") from error
    head_dim = values.get("head_dim")
    if head_dim not in (None, config.head_dim):
        raise _not_computed(location, "head_dim", head_dim, config.head_dim)
    return config


def _mapping(values: dict[str, Any], name: str, location: str) -> dict[str, Any]:
    """A field of config.json that is a mapping, {} where there is none."""
    value = values.get(name)
    if not isinstance(value, dict | None):
        raise SchemaError(f"{location}/config.json: {name} is {json.dumps(value)}, expected a mapping or null")
    return value or {}


def _not_computed(location: str, name: str, found: Any, expected: Any) -> UsageError:
    return UsageError(
        f"{location} is a model that is not computed here: {name} is {json.dumps(found)}, expected "
        f"{json.dumps(expected)}"
    )


# --- weights


def _read_weights(files: Files) -> dict[str, Tensor]:
    """All tensors of a folder, as they are saved."""
    if files.exists(_WEIGHTS):
        return _read_tensors(files, _WEIGHTS)
    if files.exists(_INDEX):
        shards = sorted(set(_read_json(files, _INDEX).get("weight_map", {}).values()))
        return {name: tensor for shard in shards for name, tensor in _read_tensors(files, shard).items()}
    pickled = [name for name in _PICKLES if files.exists(name)]
    if pickled:
        raise UsageError(
            f"{files.root} has its weights in {pickled[0]}, a pickle, which can run code when read: convert it to "
            "safetensors with transformers' from_pretrained and save_pretrained"
        )
    raise UsageError(f"{files.root} has no weights: neither {_WEIGHTS} nor {_INDEX}")


def _read_tensors(files: Files, name: str) -> dict[str, Tensor]:
    try:
        if files.is_local:
            return safetensors.torch.load_file(files.path(name))
        return safetensors.torch.load(files.read_bytes(name))
    except FileNotFoundError as error:
        raise SchemaError(f"{files.root} lacks {name}, which {_INDEX} lists") from error
    except safetensors.SafetensorError as error:
        raise SchemaError(f"{files.url(name)} is not a safetensors file: {error}") from error


def _checked(weights: dict[str, Tensor], decoder: Decoder, location: str) -> dict[str, Tensor]:
    """The weights in fp32, each in memory of its own, if they are exactly those that the decoder has."""
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith(".rotary_emb.inv_freq")}
    head = weights.get("lm_head.weight")
    if decoder.config.tied and head is not None and torch.equal(head, weights.get("model.embed_tokens.weight", head)):
        del weights["lm_head.weight"]  # some writers save a tied table twice
    expected = decoder.state_dict()
    for problem, names in (("lacks", expected.keys() - weights), ("has unexpected", weights.keys() - expected)):
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
            raise SchemaError(f"{location} {problem} weights, by its config.json: {', '.join(listed[:3])}{more}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise SchemaError(
                f"{location}: {name} has shape {list(tensor.shape)}, expected {list(expected[name].shape)} by its "
                "config.json"
            )
        if tensor.dtype not in _READABLE:
            raise UsageError(f"{location}: {name} is {tensor.dtype}, expected fp32, bf16 or fp16")
    return {name: weights[name].to(torch.float32, copy=True) for name in expected}
