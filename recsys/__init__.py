"""A generative retriever for sequential recommendation, conditioned on preferences."""
