"""Learning a reward model from comparisons: the data, the Lightning module and the command."""
