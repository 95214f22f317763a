"""Steering at inference: components that change what a generator makes, not its weights."""
