"""Numbers about scores: correlation with human opinion, and how sure they are."""
