"""Switches off the telemetry of libraries before they are imported."""

# Only modules that Python loads at startup may be imported here: see `__init__.py`.
import os

_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: a device id and events, on disk too
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, also where timm and transformers call it
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
}


def switch_off() -> None:
    """Switches telemetry off for this process and its child processes.

    Variables that are already set are the user's choice and stay.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)


class InCI:
    """A context in which openvino and nncf assume a CI build and send no telemetry.

    They have no other environment variable for this. They read `CI` when they are imported and at
    each conversion.
    """

    def __enter__(self) -> None:
        self._before = os.environ.get("CI")
        os.environ["CI"] = "true"

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = self._before
