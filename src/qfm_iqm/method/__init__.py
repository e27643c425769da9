"""The paper's method, one idea per file. It is used only in training, not at inference."""
