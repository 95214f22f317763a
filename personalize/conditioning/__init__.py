"""Encoders that turn preferences into vectors with a validity mask."""
