"""Scores over HTTP, and a page for people: safe by default, nothing stored."""
