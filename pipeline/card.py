"""README.md of a dataset folder: the card that the Hugging Face hub, and people, read."""

import json

import yaml

from corpusmill.schemas.manifest import Manifest, Totals

__all__ = ["dataset_card"]

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def dataset_card(manifest: Manifest) -> str:
    """Markdown with the YAML header that `datasets.load_dataset` understands; a function of the manifest alone."""
    name = manifest.recipe["name"]
    rows = manifest.totals.rows
    header = {
        "pretty_name": name,
        "language": sorted({tag.partition("-")[0] for tag in manifest.languages} - {"und"}),
        "size_categories": [next((label for limit, label in _SIZES if rows < limit), "n>10M")],
        "task_categories": ["text-generation"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in manifest.splits],
            }
        ],
    }
    ledger = manifest.ledger
    reasons = "\n".join(f"| {stage} | {reason} | {n:,} |" for _, stage, reason, n in ledger["reasons"])
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip()}
---

# {name}

Made by corpusmill {manifest.libraries["corpusmill"]}. Fingerprint `{manifest.fingerprint}`.

{_table("split", manifest.splits)}

{_table("language", manifest.languages)}

{_table("source", manifest.sources)}

## Where the other records went

Of {ledger["records"]:,} input records {ledger["kept"]:,} were kept, {ledger["dropped"]:,} dropped and
{ledger["damaged"]:,} damaged.

| stage | reason | records |
|---|---|--:|
{reasons}

## Columns

`input_ids` holds the tokens of the text only, without begin or end tokens; the loader puts `{manifest.tokenizer.eos}`
before each document. `tokenizer/tokenizer.json` has {manifest.tokenizer.vocab_size:,} entries. `id`, `file_path`,
`offset` and `record_index` lead back to the record in the input.

```python
import datasets

data = datasets.load_dataset("path/to/this/folder")
```

## Recipe

```json
{json.dumps(manifest.recipe, indent=1, ensure_ascii=False)}
```
"""


def _table(what: str, totals: dict[str, Totals]) -> str:
    lines = [f"| {what} | documents | tokens | bytes |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {t.rows:,} | {t.tokens:,} | {t.text_bytes:,} |" for name, t in totals.items()]
    return "\n".join(lines)
