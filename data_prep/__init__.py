"""Raw files to typed tables; knows Polars and no model library."""
