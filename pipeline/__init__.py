"""Raw dumps to a dataset folder."""
