"""Pure functions of Arrow arrays and record batches, one module a stage; no Beam, no files, no state."""
