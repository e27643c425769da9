"""The reports that libraries send about their users, switched off before they are imported."""

import os

_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: a device id and events, on disk too
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, also where timm and transformers call it
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
    "NNCF_CI": "1",  # nncf has no other switch
}


def switch_off() -> None:
    """Switches reports off for this process and those that it starts.

    What the environment says already is the user's choice, and stays.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
