"""The shared scale-wise autoregressive core: transformer blocks, key-value cache, search."""
