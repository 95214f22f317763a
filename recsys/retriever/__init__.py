"""Retrievers that emit semantic IDs, and the beam search that decodes them."""
