"""Numbers about scores, from arrays alone."""
