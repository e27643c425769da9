"""Of photos of one moment, which to keep."""
