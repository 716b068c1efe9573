"""Model folders: transformers loads ours, we load transformers', and what we do not compute is refused by name."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpusmill.schemas.errors import SchemaError, UsageError
from corpusmill.schemas.files import Files, set_hook
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json
from corpusmill.train.model.config import ModelConfig
from corpusmill.train.model.decoder import Decoder, init_weights
from corpusmill.train.model.folder import read_config, read_model, write_model, write_tensors

TEXTS = [
    "The mill grinds slowly , but it doesn't stop .",
    "水车慢慢地转，但从不停下 ！",
    "  spaces  at both ends and a tab\t",
    "line\n\nline 一二三 🙂",
]


@pytest.fixture(scope="module")
def tokenizer_json() -> bytes:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    config = ModelConfig(
        vocab_size=420,
        dim=64,
        n_layers=3,
        n_heads=4,
        n_kv_heads=2,
        ffn_dim=96,
        max_length=128,
        rope_theta=20000.0,
        norm_eps=1e-4,
        tied=request.param,
    )
    return make_decoder(config)


def make_decoder(config: ModelConfig) -> Decoder:
    decoder = Decoder(config)
    init_weights(decoder, 0)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.mul_(3) if parameter.ndim == 2 else parameter.add_(0.01 * len(name))
    return decoder


@pytest.fixture
def folder(tmp_path: Path, decoder: Decoder, tokenizer_json: bytes) -> str:
    write_model(Files(tmp_path), "model", decoder, tokenizer_json, eos="<eos>", card="# A mill\n")
    return str(tmp_path / "model")


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.logging.disable_progress_bar()
    yield transformers
    transformers.logging.enable_progress_bar()


def edit(folder: str, name: str, **changes: Any) -> None:
    """Set fields of a JSON file of a folder; None in `changes` is JSON's null."""
    path = Path(folder) / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def same_weights(one: Decoder, other: Decoder) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


# --- ours in transformers


def test_transformers_computes_the_same(folder: str, decoder: Decoder, transformers: Any) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    assert theirs.dtype == torch.float32
    assert theirs.num_parameters() == decoder.config.n_parameters
    ids = torch.randint(420, (2, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, decoder(ids), rtol=0, atol=1e-5)


def test_transformers_generates_the_same_40_tokens(folder: str, decoder: Decoder, transformers: Any) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(125, 420, (1, 8), generator=torch.Generator().manual_seed(1))
    got = theirs.generate(ids, max_new_tokens=40, do_sample=False, eos_token_id=None)
    ours = ids
    with torch.no_grad():
        for _ in range(40):
            ours = torch.cat([ours, decoder(ours)[:, -1:].argmax(-1)], 1)
    assert got.tolist() == ours.tolist()
    assert theirs.generation_config.eos_token_id == SPECIAL_TOKENS.index("<eos>")
    assert theirs.generation_config.pad_token_id == SPECIAL_TOKENS.index("<pad>")


def test_transformers_tokenizes_the_same(folder: str, tokenizer_json: bytes, transformers: Any) -> None:
    """No token is added, and no space is lost when ids become text again."""
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), Tokenizer.from_str(tokenizer_json.decode())
    for text in TEXTS:
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text).ids
        assert theirs.decode(ids) == text
    assert (theirs.eos_token, theirs.bos_token, theirs.pad_token) == ("<eos>", "<eos>", "<pad>")
    assert theirs.model_max_length == 128


@pytest.mark.parametrize("shard", [None, "50KB"], ids=["one-file", "sharded"])
def test_there_and_back(folder: str, decoder: Decoder, tmp_path: Path, transformers: Any, shard: str | None) -> None:
    """Ours to transformers to ours: weights bit for bit."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    back = tmp_path / "back"
    theirs.save_pretrained(back, **({} if shard is None else {"max_shard_size": shard}))
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(back)
    assert (back / "model.safetensors.index.json").exists() == (shard is not None)
    model = read_model(str(back))
    assert model.decoder.config == decoder.config
    assert same_weights(model.decoder, decoder)
    assert (model.eos_token, model.eos) == ("<eos>", 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_made_by_transformers(
    tmp_path: Path, tokenizer_json: bytes, transformers: Any, dtype: torch.dtype
) -> None:
    config = transformers.LlamaConfig(
        vocab_size=420,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        eos_token_id=[1, 8],
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    model = read_model(str(tmp_path))
    assert model.eos == 1
    assert {parameter.dtype for parameter in model.decoder.parameters()} == {torch.float32}
    ids = torch.randint(420, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.decoder(ids), theirs(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("text", ["<eos>", "a <|im_start|>b<|im_end|>", "<pad> 慢慢 <extra_id_3>", "no special token"])
def test_a_special_token_in_a_text_is_text_to_transformers_too(
    folder: str, tokenizer_json: bytes, transformers: Any, text: str
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = from_json(tokenizer_json).encode(text).ids
    assert tokenizer(text)["input_ids"] == tokenizer.encode(text) == ids
    assert tokenizer([text, text + text])["input_ids"][0] == ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([1, *ids, 1]) == f"<eos>{text}<eos>"
    assert tokenizer.decode([1, *ids, 1], skip_special_tokens=True) == text
    assert tokenizer("<eos>", split_special_tokens=False)["input_ids"] == [1], "who wants the id gets it"


# --- ours in ours


def test_what_is_read_is_what_was_written(folder: str, decoder: Decoder, tokenizer_json: bytes) -> None:
    model = read_model(folder)
    assert read_config(folder) == model.decoder.config == decoder.config
    assert same_weights(model.decoder, decoder)
    assert model.tokenizer_json == tokenizer_json
    assert (Path(folder) / "README.md").read_text() == "# A mill\n"
    assert all(parameter.requires_grad for parameter in model.decoder.parameters())


def test_a_read_model_does_not_hang_on_its_file(folder: str) -> None:
    """Checkpoints are pruned while a model trains on."""
    model = read_model(folder)
    before = {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}
    weights = Path(folder) / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.decoder.state_dict().items())


def test_the_files_are_listed_with_their_digests(tmp_path: Path, decoder: Decoder, tokenizer_json: bytes) -> None:
    written = write_model(Files(tmp_path), "", decoder, tokenizer_json, eos="<eos>")
    assert [info.name for info in written] == [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "model.safetensors",
        "config.json",
    ]
    for info in written:
        content = (tmp_path / info.name).read_bytes()
        assert (info.n_bytes, info.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    again = write_model(Files(tmp_path), "again", decoder, tokenizer_json, eos="<eos>")
    assert [info.sha256 for info in again] == [info.sha256 for info in written]


def test_a_folder_in_an_object_store(decoder: Decoder, tokenizer_json: bytes) -> None:
    files = Files("memory://model-folder")
    write_model(files, "step-3/model", decoder, tokenizer_json, eos="<eos>")
    assert same_weights(read_model("memory://model-folder/step-3/model").decoder, decoder)


def test_bf16_halves_the_weights_and_rounds_them(
    tmp_path: Path, decoder: Decoder, tokenizer_json: bytes, transformers: Any
) -> None:
    write_model(Files(tmp_path), "", decoder, tokenizer_json, eos="<eos>", dtype="bf16")
    assert (tmp_path / "model.safetensors").stat().st_size < 2.2 * decoder.config.n_parameters
    for name, tensor in read_model(str(tmp_path)).decoder.state_dict().items():
        assert torch.equal(tensor, decoder.state_dict()[name].bfloat16().float())
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_a_tokenizer_without_pad_pads_with_eos(tmp_path: Path, decoder: Decoder) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_special_tokens(["<|endoftext|>"])
    write_model(Files(tmp_path), "", decoder, tokenizer.to_str().encode(), eos="<|endoftext|>")
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 0
    assert read_model(str(tmp_path)).eos_token == "<|endoftext|>"


def test_eos_must_be_special(tmp_path: Path, decoder: Decoder, tokenizer_json: bytes) -> None:
    with pytest.raises(UsageError, match="'</s>' is no special token of the tokenizer; it has <pad>, <eos>"):
        write_model(Files(tmp_path), "", decoder, tokenizer_json, eos="</s>")


def test_write_tensors_takes_views_and_leaves_nothing_behind(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    write_tensors(Files(tmp_path), "a/b.safetensors", {"columns": whole.t(), "row": whole[1]})
    read = safetensors.torch.load_file(tmp_path / "a/b.safetensors")
    assert torch.equal(read["columns"], whole.t())
    assert torch.equal(read["row"], whole[1])
    assert not list((tmp_path / "tmp").iterdir())
    with safetensors.safe_open(tmp_path / "a/b.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_weights_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number)[:7]))

    def hook(step: str, name: str) -> None:
        published.append((step, [*synced]))

    published: list[tuple[str, list[tuple[int, ...]]]] = []
    set_hook(hook)
    try:
        write_tensors(Files(tmp_path), "model.safetensors", decoder.state_dict())
    finally:
        set_hook(None)
    assert published[0] == ("publish", [(tmp_path / "model.safetensors").stat()[:7]]), "this file, in its full size"


# --- forms that mean the same


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": None, "rope_theta": 20000.0, "rope_scaling": None},
        {"rope_parameters": None, "rope_theta": 20000, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}, "rope_theta": 10000.0},
        {"rope_parameters": {"rope_theta": 10000.0}, "rope_scaling": {"rope_theta": 20000.0}, "rope_theta": 10000.0},
        {"head_dim": None, "attention_bias": None, "mlp_bias": None, "sliding_window": None},
    ],
)
def test_configs_of_transformers_4_and_5(folder: str, decoder: Decoder, changes: dict) -> None:
    edit(folder, "config.json", **changes)
    assert read_config(folder) == decoder.config


def test_what_is_not_said_is_what_transformers_takes(folder: str, decoder: Decoder, transformers: Any) -> None:
    path = Path(folder) / "config.json"
    kept = ("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    values = {name: value for name, value in json.loads(path.read_text()).items() if name in kept}
    path.write_text(json.dumps(values))
    ours, theirs = read_config(folder), transformers.AutoConfig.from_pretrained(folder)
    assert ours.n_kv_heads == theirs.num_key_value_heads == 4
    assert ours.max_length == theirs.max_position_embeddings
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.tied == theirs.tie_word_embeddings
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]


def rewrite(folder: str, change: dict[str, torch.Tensor | None]) -> None:
    """Change, add or (None) drop tensors of a folder."""
    path = Path(folder) / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()} | change
    safetensors.torch.save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, path)


def test_old_rotary_buffers_are_passed_over(folder: str, decoder: Decoder) -> None:
    rewrite(folder, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert same_weights(read_model(folder).decoder, decoder)


@pytest.mark.parametrize("decoder", [True], indirect=True, ids=["tied"])
def test_a_tied_head_may_be_saved_twice_but_not_as_another(folder: str, decoder: Decoder) -> None:
    table = decoder.model.embed_tokens.weight.detach()
    rewrite(folder, {"lm_head.weight": table.clone()})
    assert same_weights(read_model(folder).decoder, decoder)
    rewrite(folder, {"lm_head.weight": table + 1})
    with pytest.raises(SchemaError, match="unexpected weights.*lm_head.weight"):
        read_model(folder)


# --- refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, 'model_type is "mistral", expected "llama"'),
        ({"hidden_act": "gelu"}, 'hidden_act is "gelu", expected "silu"'),
        ({"attention_bias": True}, "attention_bias is true, expected false"),
        ({"mlp_bias": True}, "mlp_bias is true, expected false"),
        ({"sliding_window": 4096}, "sliding_window is 4096, expected null"),
        ({"head_dim": 32}, "head_dim is 32, expected 16"),
        ({"quantization_config": {"bits": 4}}, 'quantization_config is {"bits": 4}, expected null'),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, 'rope_type is "llama3", expected "default"'),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, 'rope_type is "linear", expected "default"'),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 'rope_type is "linear", expected "default"'),
        ({"rope_scaling": {"rope_type": "default", "type": "yarn"}}, 'rope_type is "yarn", expected "default"'),
        ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5, expected 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, expected 1"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(folder: str, changes: dict, message: str) -> None:
    edit(folder, "config.json", **changes)
    for read in (read_config, read_model):
        with pytest.raises(UsageError, match="is a model that is not computed here: ") as caught:
            read(folder)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None, "vocab_size": None}, r"config\.json has no vocab_size, hidden_size"),
        ({"hidden_size": "64"}, r"config\.json: dim Input should be a valid integer"),
        ({"num_attention_heads": 5}, r"config\.json: .*dim 64 is not a multiple of n_heads 5"),
        ({"rope_parameters": "default"}, r'config\.json: rope_parameters is "default", expected a mapping or null$'),
        ({"rope_scaling": [2.0]}, r"config\.json: rope_scaling is \[2\.0\], expected a mapping or null$"),
    ],
)
def test_sizes_that_cannot_be(folder: str, changes: dict, message: str) -> None:
    edit(folder, "config.json", **changes)
    with pytest.raises(SchemaError, match=message):
        read_config(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, r"lacks weights, by its config\.json: model\.norm\.weight$"),
        (
            {f"model.layers.{i}.mlp.{part}_proj.weight": None for i in (0, 1) for part in ("up", "down")},
            r"model\.layers\.0\.mlp\.down_proj\.weight, model\.layers\.0\.mlp\.up_proj\.weight, .* and 1 more$",
        ),
        ({"model.layers.7.mlp.up_proj.weight": torch.ones(1)}, r"unexpected weights.*model\.layers\.7\.mlp\.up_proj"),
        ({"model.norm.weight": torch.ones(32)}, r"model\.norm\.weight has shape \[32\], expected \[64\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: str, change: dict, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises(SchemaError, match=message):
        read_model(folder)


def test_quantized_weights_are_refused(folder: str) -> None:
    rewrite(folder, {"model.norm.weight": torch.ones(64, dtype=torch.int8)})
    with pytest.raises(UsageError, match=r"model\.norm\.weight is torch\.int8, expected fp32, bf16 or fp16"):
        read_model(folder)


def test_pickles_are_never_opened(folder: str) -> None:
    weights = Path(folder) / "model.safetensors"
    weights.rename(Path(folder) / "pytorch_model.bin")
    with pytest.raises(UsageError, match="a pickle, which can run code when read: convert it to safetensors"):
        read_model(folder)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("config.json", UsageError, r"has no config\.json; give a model folder"),
        ("tokenizer.json", SchemaError, r"has no tokenizer\.json"),
        ("model.safetensors", UsageError, r"has no weights: neither model\.safetensors nor model\.safetensors\.index"),
    ],
)
def test_missing_files_are_named(folder: str, name: str, error: type, message: str) -> None:
    (Path(folder) / name).unlink()
    with pytest.raises(error, match=message):
        read_model(folder)


def test_a_missing_shard_is_named(folder: str) -> None:
    weights = Path(folder) / "model.safetensors"
    weights.unlink()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SchemaError, match=r"lacks model-00001-of-00002\.safetensors, which .*index\.json lists"):
        read_model(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", r"config\.json is not JSON"),
        ("config.json", b"[]", r"config\.json is not a JSON object"),
        ("tokenizer.json", b"{}", r"model/tokenizer\.json is not a tokenizer\.json of the tokenizers library: "),
        ("model.safetensors", b"none", r"model\.safetensors is not a safetensors file"),
    ],
)
def test_damaged_files_are_named(folder: str, name: str, content: bytes, message: str) -> None:
    (Path(folder) / name).write_bytes(content)
    with pytest.raises(SchemaError, match=message):
        read_model(folder)


@pytest.mark.parametrize("eos", [None, "<eos>", -1, 1 << 40])
def test_an_end_of_text_that_is_no_token(folder: str, eos: object) -> None:
    edit(folder, "config.json", eos_token_id=eos)
    with pytest.raises(SchemaError, match=rf"eos_token_id is {eos!r}, expected an id of tokenizer\.json"):
        read_model(folder)
