"""The `corpusmill` command: a table from name to the module that does it, imported only when it is called."""

import importlib
import sys
from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("corpusmill.pipeline.commands.run", "pipeline", "run a recipe: raw dumps to a dataset folder"),
    "fetch": ("corpusmill.pipeline.commands.fetch", "pipeline", "download and check the inputs of a recipe"),
    "plan": ("corpusmill.pipeline.commands.plan", "pipeline", "show what a run would read, without doing it"),
    "status": ("corpusmill.pipeline.commands.status", "pipeline", "show how far a run is"),
    "inspect": ("corpusmill.pipeline.commands.inspect", "pipeline", "statistics of a dataset, a run or one shard"),
    "train": ("corpusmill.train.commands.train", "train", "train a model on dataset folders; `train plot` draws runs"),
    "eval": ("corpusmill.train.commands.evaluate", "train", "bits per byte, perplexity, accuracy of a model"),
    "generate": ("corpusmill.train.commands.generate", "train", "continue texts with a model"),
    "export": ("corpusmill.train.commands.export", "train", "write a model folder that loads with transformers"),
}
"""By name: module with `app` (a typer app), the extra that brings what it needs, and one line of help."""

_EPILOGUE = """
start here:
  corpusmill plan recipes/demo.yaml
  corpusmill run recipes/demo.yaml --out runs/demo
  corpusmill inspect runs/demo/dataset
  corpusmill train --data runs/demo/dataset --out runs/nano --config recipes/train/demo.yaml
  corpusmill generate --checkpoint runs/nano "The system"

Each command explains itself: corpusmill run --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 failed, 2 usage, 3 done with damaged records."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("corpusmill: from raw web dumps to a trained language model in one recipe\n\ncommands:")
        print("\n".join(f"  {name:<10}{what}" for name, (_, _, what) in COMMANDS.items()) + "\n" + _EPILOGUE)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"corpusmill {version('corpusmill')}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"commands: {', '.join(COMMANDS)}"
        print(f"corpusmill: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    module, extra, _ = COMMANDS[name]
    try:
        return int(importlib.import_module(module).main(arguments[1:]))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("corpusmill"):
            raise
        print(
            f"corpusmill {name}: {error.name} is not installed; it comes with: pip install 'corpusmill[{extra}]'",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
