"""Bytes -> pixels -> crops: reading, cropping, and known degradations."""
