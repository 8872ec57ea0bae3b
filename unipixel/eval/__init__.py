"""Measuring a model: metrics, and the drawn world's held-out questions."""
