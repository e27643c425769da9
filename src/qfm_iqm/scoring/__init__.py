"""Scoring many images: finding files, the engine, and score rows."""
