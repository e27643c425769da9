"""The quality model: backbone, decoder, scoring, and the model folder."""
