"""Statistics of scores, computed from arrays."""
