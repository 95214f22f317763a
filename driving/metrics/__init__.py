"""How safe, comfortable, brisk and true to its style a trajectory is."""
