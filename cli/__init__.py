"""The `corpusmill` command."""
