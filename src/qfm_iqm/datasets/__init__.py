"""Rated sets of images: their tables of labels and their splits."""
