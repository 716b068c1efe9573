"""Pure stages."""
