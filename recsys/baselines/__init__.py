"""Strong, simple recommenders that every number is held against."""
