"""How well a trained generator can be steered: the probe is run, and a report written."""
