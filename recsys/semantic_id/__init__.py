"""Semantic IDs: quantizers, the codec between items and codes, and the trie."""
