"""Deduplication as pure functions of numpy arrays: packed keys, raw components, the cascade inside them."""
