"""What turns a unit's numbers into masks, in the place of the top-k: one registered class each."""

from . import topk  # noqa: F401
