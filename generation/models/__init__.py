"""The models: each a small file that chooses among the parts of `generation`."""
