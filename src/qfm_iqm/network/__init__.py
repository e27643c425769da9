"""Pixels -> quality: encoder, attention-panel decoder, label scale, and the model folder."""
