"""Runtimes that compute scores from crops: torch, ONNX Runtime and OpenVINO."""
