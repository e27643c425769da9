"""Evaluation of models: correlation with human opinion, calibration, diagnosis, test ledger."""
