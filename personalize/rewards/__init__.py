"""Rewards and values that are learnt or computed: what says how good something is."""
