"""Preferences read from text, by three extractors behind one interface."""
