"""Driving logs of any format as one set of tables."""
