"""One file per raw review format, the splits, and a simulated town."""
