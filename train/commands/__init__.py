"""The commands `train`, `eval`, `generate` and `export`."""
