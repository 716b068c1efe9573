"""Special tokens that every tokenizer trained by corpusmill reserves, and the one safe way to load a tokenizer.

`tokenizers` is imported inside the functions: this module also serves commands that only read names and ids.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["SPECIAL_TOKENS", "from_json", "special_ids"]

SPECIAL_TOKENS: tuple[str, ...] = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<extra_id_{i}>" for i in range(100)),
    *(f"<spare_{i}>" for i in range(16)),
)
"""Ids 0 to 124 in this order: language modelling, BERT-style masking, chat, T5-style spans, and spare ones."""


def from_json(data: bytes) -> "Tokenizer":
    """Load a tokenizer.json so that no text can ever produce a special id.

    `encode_special_tokens` is not saved in the file; without it a page that contains `<|im_end|>` in its text
    would become the special id.

    Raises:
        ValueError: the file is not a tokenizer.json.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # tokenizers raises plain Exception
        raise ValueError(f"not a tokenizer.json of the tokenizers library: {error}") from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_ids(tokenizer: "Tokenizer") -> dict[str, int]:
    """Ids of all special tokens of a tokenizer, by token, in the order of the ids."""
    special = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return dict(sorted(special.items(), key=lambda item: item[1]))
