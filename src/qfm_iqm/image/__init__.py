"""Decoding, preprocessing and degrading images."""
