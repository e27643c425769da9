"""Causes of low quality: how many points each fault of a photo costs."""
