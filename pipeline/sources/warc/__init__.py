"""WARC and ARC files, and the HTTP messages in them."""
