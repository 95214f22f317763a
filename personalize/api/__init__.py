"""The retrieval API: what two trained halves know, behind one small server."""
