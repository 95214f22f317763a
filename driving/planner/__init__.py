"""A planner: the scene and a style in, a trajectory out."""
