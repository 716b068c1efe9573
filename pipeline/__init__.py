"""Raw dumps to a dataset folder: fetch, extract, refine, select, dedup, tokenizer, shard, close, manifest.

`run` drives; `jobs` say what there is to do and do it unit by unit; `stages`, `dedup` and `sources` are pure. Only
`graph`, `runners` and the two modules about local workers import Beam.
"""
