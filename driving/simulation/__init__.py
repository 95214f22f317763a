"""Closed loop: a plan becomes motion among others."""
