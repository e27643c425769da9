"""Culling: chooses which of the photos of one moment to keep."""
