"""The decoder: its sizes, its layers, and its folder on disk."""
