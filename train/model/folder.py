"""The `model/` folder: weights, sizes and tokenizer as Hugging Face's Llama classes read them.

It is written without transformers: parameters have the names and shapes of LlamaForCausalLM already. Read is any
folder of that class, single or sharded; what the decoder cannot compute is refused by name.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from corpusmill.schemas.errors import SchemaError, UsageError
from corpusmill.schemas.files import FileInfo, Files
from corpusmill.schemas.tokens import from_json, special_ids
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder

__all__ = ["Dtype", "ModelFolder", "read_config", "read_model", "write_model", "write_tensors"]

Dtype = Literal["fp32", "bf16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_CONFIG, _WEIGHTS, _INDEX, _TOKENIZER = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
)
_HEAD = "lm_head.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        decoder: the model, in fp32 on the CPU.
        tokenizer_json: as it stands in the folder.
        eos: id of the token that ends a document.
        eos_token: its name.
    """

    decoder: Decoder
    tokenizer_json: bytes
    eos: int
    eos_token: str


def write_tensors(files: Files, name: str, tensors: Mapping[str, Tensor]) -> FileInfo:
    """Publish tensors as a safetensors file."""
    path = files.temporary_path()
    try:
        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        safetensors.torch.save_file(contiguous, path, metadata={"format": "pt"})
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        info = FileInfo(name=name, sha256=digest, n_bytes=path.stat().st_size)
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
    """Write a model folder.

    Args:
        files: what the folder lies in.
        folder: its name; "" for `files` itself.
        decoder: the model.
        tokenizer_json: its tokenizer, published as it is.
        eos: the token that precedes and ends a document. It stands for the beginning of a text, too: there is no
            other token for that.
        card: README.md; None for none.
        dtype: of the weights.

    Returns:
        What was published.
    """
    at = f"{folder}/" if folder else ""
    special = special_ids(from_json(tokenizer_json))
    ids = {"bos_token_id": special[eos], "eos_token_id": special[eos], "pad_token_id": special.get("<pad>")}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": decoder.config.max_length,
        "clean_up_tokenization_spaces": False,
        # as in training: no text produces a special id
        "split_special_tokens": True,
        "bos_token": eos,
        "eos_token": eos,
        **({"pad_token": "<pad>"} if "<pad>" in special else {}),
    }
    texts = {
        _CONFIG: _hf_config(decoder.config, dtype) | ids,
        "generation_config.json": ids,
        "tokenizer_config.json": tokenizer_config,
    }
    weights = {name: tensor.to(_DTYPES[dtype]) for name, tensor in decoder.state_dict().items()}
    published = [
        files.write_bytes(at + name, (json.dumps(data, indent=2) + "\n").encode()) for name, data in texts.items()
    ]
    published.append(files.write_bytes(at + _TOKENIZER, tokenizer_json))
    if card is not None:
        published.append(files.write_bytes(at + "README.md", card.encode()))
    published.append(write_tensors(files, at + _WEIGHTS, weights))
    return published


def _hf_config(config: ModelConfig, dtype: Dtype) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_length,
        "initializer_range": 0.02,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # for transformers 4; 5 has the next one
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "dtype": str(_DTYPES[dtype]).removeprefix("torch."),
        "use_cache": True,
    }


def read_config(location: str) -> ModelConfig:
    """The sizes in a model folder.

    Args:
        location: the folder, a local path or fsspec URL.

    Raises:
        UsageError: no model folder, or a model that the decoder cannot compute: what it has, and what it should.
    """
    files = Files(location)
    data = files.read_or_none(_CONFIG)
    if data is None:
        raise UsageError(f"there is no {_CONFIG} in {location}; give a model folder as transformers writes it")
    values: dict[str, Any] = json.loads(data)
    for field, found, expected in _unknown(values):
        raise UsageError(f"{location}: {field} is {found!r}, and only {expected} is computed here")
    rope = values.get("rope_parameters") or {}
    heads = values["num_attention_heads"]
    try:
        return ModelConfig(
            vocab_size=values["vocab_size"],
            dim=values["hidden_size"],
            n_layers=values["num_hidden_layers"],
            n_heads=heads,
            n_kv_heads=values.get("num_key_value_heads") or heads,
            ffn_dim=values["intermediate_size"],
            max_length=values["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 10_000.0),
            norm_eps=values["rms_norm_eps"],
            tied=bool(values.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise UsageError(f"{location}: {_CONFIG} has no {error.args[0]}") from error
    except ValueError as error:
        raise UsageError(f"{location}: {_CONFIG}: {error}") from error


def _unknown(values: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """What a config asks for that the decoder does not have: field, value, and what would do."""
    if values.get("model_type") != "llama":
        yield "model_type", values.get("model_type"), "llama"
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        yield "rope_type", kind, "default"
    for field in ("attention_bias", "mlp_bias"):
        if values.get(field):
            yield field, True, "false"
    if values.get("hidden_act", "silu") != "silu":
        yield "hidden_act", values["hidden_act"], "silu"
    if values.get("sliding_window"):
        yield "sliding_window", values["sliding_window"], "null"
    if values.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        yield "partial_rotary_factor", values.get("partial_rotary_factor", rope.get("partial_rotary_factor")), "1.0"
    head_dim = values.get("head_dim")
    if head_dim and head_dim * values.get("num_attention_heads", 0) != values.get("hidden_size"):
        expected = (
            f"hidden_size / num_attention_heads = {values.get('hidden_size')} / {values.get('num_attention_heads')}"
        )
        yield "head_dim", head_dim, expected


def read_model(location: str) -> ModelFolder:
    """Weights and tokenizer of a model folder.

    Args:
        location: the folder, a local path or fsspec URL; ours, or any of the class LlamaForCausalLM.

    Raises:
        UsageError: no model folder, no safetensors, no tokenizer.json, no token that ends a text, or a model that the
            decoder cannot compute.
        SchemaError: the tensors are not those that the sizes ask for.
    """
    files = Files(location)
    config = read_config(location)
    tokenizer_json = files.read_or_none(_TOKENIZER)
    if tokenizer_json is None:
        raise UsageError(
            f"there is no {_TOKENIZER} in {location}; convert the tokenizer with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers"
        )
    with torch.device("meta"):
        decoder = Decoder(config)
    expected = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
    found: dict[str, Tensor] = {}
    for name in _weight_files(files):
        found |= {key: tensor.float() for key, tensor in safetensors.torch.load(files.read_bytes(name)).items()}
    found = {name: tensor for name, tensor in found.items() if not name.endswith("rotary_emb.inv_freq")}
    if config.tied:
        found.pop(_HEAD, None)
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not expected" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has the shape {list(found[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise SchemaError(f"{location}: the weights do not fit {_CONFIG}: {', '.join(sorted(problems)[:3])}{more}")
    decoder.load_state_dict(found, assign=True)
    eos, eos_token = _eos(files, tokenizer_json)
    return ModelFolder(decoder=decoder, tokenizer_json=tokenizer_json, eos=eos, eos_token=eos_token)


def _eos(files: Files, tokenizer_json: bytes) -> tuple[int, str]:
    """The token that ends a text: the first of those that config.json lists."""
    number = json.loads(files.read_bytes(_CONFIG)).get("eos_token_id")
    first = number[0] if isinstance(number, list) else number
    token = None if first is None else from_json(tokenizer_json).id_to_token(first)
    if token is None:
        raise UsageError(f"{files.root}: eos_token_id is {number!r} in {_CONFIG}; expected the id of a token")
    return first, token


def _weight_files(files: Files) -> list[str]:
    index = files.read_or_none(_INDEX)
    if index is not None:
        return sorted(set(json.loads(index)["weight_map"].values()))
    if files.exists(_WEIGHTS):
        return [_WEIGHTS]
    raise UsageError(
        f"there is no {_WEIGHTS} in {files.root}; convert pickled weights (.bin) to safetensors with transformers: "
        "model.save_pretrained(folder)"
    )
