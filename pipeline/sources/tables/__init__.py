"""Files whose rows are documents: JSONL, JSON arrays, Parquet, Arrow, CSV, saved datasets."""
