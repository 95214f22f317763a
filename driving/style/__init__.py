"""How somebody drives: measures, labels and vectors."""
