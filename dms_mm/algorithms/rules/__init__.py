"""How ratios move: one registered class each."""
