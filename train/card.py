"""README.md of a model folder: what the model was trained on, and how good it is."""

from collections.abc import Mapping, Sequence
from typing import Literal

from corpusmill.train.checkpoint import DatasetUse, State
from corpusmill.train.data.plan import Read
from corpusmill.train.evaluation import Evaluation
from corpusmill.train.setup import Setup

__all__ = ["model_card", "shares"]


def model_card(setup: Setup, state: State, evaluation: Evaluation | None) -> str:
    """The card in markdown, with the front matter that model hubs read.

    What was consumed of each dataset is exact, by the data plan. Within a dataset, shares of languages and sources
    are those of its split by tokens: each epoch reads every token once, and an epoch that is not finished is a
    random sample of the windows.

    Args:
        setup: of the run.
        state: of the checkpoint.
        evaluation: of these weights; None where they were not scored.
    """
    model, optim = setup.model, setup.config.optim
    read = state.plan.read(state.step)
    used = [dataset for dataset in state.datasets if read[dataset.fingerprint].n_tokens]
    languages = sorted({tag.partition("-")[0] for dataset in used for tag in dataset.languages})
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "language:",
        *(f"- {tag}" for tag in languages),
        "---",
        "",
        "# A model trained with corpusmill",
        "",
        f"A Llama-layout decoder of {model.n_parameters:,} parameters ({model.n_layers} layers, width {model.dim}, "
        f"{model.n_heads} heads, {model.n_kv_heads} key and value heads, vocabulary {model.vocab_size:,}, context "
        f"{model.max_length:,}), after {state.step:,} of {optim.steps:,} steps of {optim.batch} sequences of "
        f"{setup.sequence_length:,} tokens: {state.n_tokens:,} tokens learned from. Optimizer {optim.name}, "
        f"{state.precision}, seed {setup.config.seed}.",
        "",
        "It writes as a base model does: it continues text, and knows no instructions.",
        "",
        "## Data",
        "",
        "| dataset | fingerprint | split | tokens read | epochs |",
        "|---|---|---|--:|--:|",
    ]
    for dataset in used:
        n_tokens, epochs = read[dataset.fingerprint]
        lines.append(f"| {dataset.name} | `{dataset.fingerprint}` | {dataset.split} | {n_tokens:,} | {epochs:.2f} |")
    for what in ("language", "source"):
        lines += ["", f"| {what} | share |", "|---|--:|"]
        lines += [f"| {key} | {share:.1%} |" for key, share in shares(what, used, read).items()]
    lines += ["", f"The tokenizer's sha256 is `{state.tokenizer_sha256}`."]
    if evaluation is not None:
        lines += ["", "## Evaluation", "", f"On the split {setup.config.eval.split} of the same datasets.", ""]
        lines += ["| | documents | bits per byte | perplexity | accuracy |", "|---|--:|--:|--:|--:|"]
        rows = {"all": evaluation.total, **evaluation.languages, **evaluation.sources}
        lines += [
            f"| {name} | {score.n_documents:,} | {score.bits_per_byte:.4f} | {score.perplexity:.2f} | "
            f"{score.accuracy:.4f} |"
            for name, score in rows.items()
        ]
    return "\n".join(lines) + "\n"


def shares(
    what: Literal["language", "source"], used: Sequence[DatasetUse], read: Mapping[str, Read]
) -> dict[str, float]:
    """The share that each language or source has in what was read, the largest first."""
    found: dict[str, float] = {}
    for dataset in used:
        n_tokens = dataset.languages if what == "language" else dataset.sources
        for key, n in n_tokens.items():
            part = read[dataset.fingerprint].n_tokens * n / max(sum(n_tokens.values()), 1)
            found[key] = found.get(key, 0.0) + part
    whole = sum(found.values()) or 1.0
    return {key: part / whole for key, part in sorted(found.items(), key=lambda item: (-item[1], item[0]))}
