"""What turns a ratio into masks, in the place of the top-k: one registered class each."""
