"""Rated image datasets: tables of labels, splits and checks."""
