"""README.md of a model folder: what the model was trained on, and how good it is."""

from corpusmill.schemas.manifest import Totals
from corpusmill.train.checkpoint import State
from corpusmill.train.evaluation import Evaluation
from corpusmill.train.setup import Setup

__all__ = ["model_card"]


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
    consumed = state.plan.consumed(state.plan.samples_of(state.step).start)
    positions = {name: consumed[name] * setup.sequence_length for name in setup.datasets}
    languages = sorted({tag for dataset in setup.datasets.values() for tag in dataset.manifest.languages})
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "language:",
        *(f"- {tag}" for tag in sorted({tag.partition("-")[0] for tag in languages})),
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
    for name, dataset in setup.datasets.items():
        epochs = consumed[name] / dataset.n_windows(setup.sequence_length)
        title = str(dataset.manifest.recipe.get("name", "dataset"))
        lines.append(f"| {title} | `{name}` | {dataset.split} | {positions[name]:,} | {epochs:.2f} |")
    lines += _shares("language", setup, positions) + _shares("source", setup, positions)
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


def _shares(what: str, setup: Setup, positions: dict[str, int]) -> list[str]:
    """A table of the share that each language or source has in what was read."""
    shares: dict[str, float] = {}
    for name, dataset in setup.datasets.items():
        totals: dict[str, int] = {}
        for shard in dataset.manifest.shards:
            if shard.split == dataset.split:
                groups: dict[str, Totals] = shard.languages if what == "language" else shard.sources
                for key, group in groups.items():
                    totals[key] = totals.get(key, 0) + group.tokens
        n_tokens = max(sum(totals.values()), 1)
        for key, n in totals.items():
            shares[key] = shares.get(key, 0.0) + positions[name] * n / n_tokens
    whole = sum(shares.values()) or 1.0
    rows = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return ["", f"| {what} | share |", "|---|--:|", *(f"| {key} | {share / whole:.1%} |" for key, share in rows)]
