"""Pixels to quality: backbone, decoder, and what a model folder holds."""
