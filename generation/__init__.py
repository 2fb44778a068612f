"""One scale-wise autoregressive core, the image models and tokenizers that stand on it, and the searches they share.

A `schedule` says which tokens are decided together; `sample.run` makes them, step by step, out of a model's feed, core
and head and a `cache`; `core`, `mask`, `position` and `state` are what cores are made of, `quantize` and `tokenizer`
turn images into codes and back. Begin with `models.var`. The zoom models of `zoomloc` are made of the same blocks.
"""
