"""What computes scores from crops: torch, ONNX Runtime or OpenVINO, behind one small interface."""
