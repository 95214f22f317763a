"""Intervals and tests for numbers that can be believed."""
