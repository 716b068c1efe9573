"""Dumps of MediaWiki, in any packing."""
