"""The paper, one idea a file; exists only in training: at inference nothing of it remains."""
