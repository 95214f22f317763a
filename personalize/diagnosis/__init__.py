"""What tuning did to a generator, measured on comparisons and contexts it was not tuned on."""
