"""Labels and losses that tune a generator towards preferences."""
