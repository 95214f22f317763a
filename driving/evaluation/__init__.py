"""How planners are asked for a style, and what came of it."""
