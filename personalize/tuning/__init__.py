"""Tuning a trained generator by preferences: the Lightning loop, its data, the command."""
