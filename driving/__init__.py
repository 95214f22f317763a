"""A trajectory planner conditioned on driving style."""
