"""Modules that are traced as one operator: one registered kind each."""
