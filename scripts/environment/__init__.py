"""What the set-up does, in the standard library alone: it runs before anything is installed."""
