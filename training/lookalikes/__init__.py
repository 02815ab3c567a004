"""Training rows that we write ourselves: harmless texts that look like harmful ones, and harmful ones like them.

Public sets of harmful prompts share a style ("How can I ...", "Write a tutorial on ..."), and a classifier learns the
style instead of the meaning. The rows made here have the same forms and the same words with both meanings. Nothing in
them is taken from a data set, and harmful rows name an intent only: no means, no quantities, no steps.
"""

from training.lookalikes.rows import Row, generate

__all__ = ["Row", "generate"]
