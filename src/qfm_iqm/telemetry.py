"""The reports that libraries send about their users, switched off before they are imported."""

# Nothing is imported here that Python has not loaded at its start: see the package's first lines.
import os

_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: a device id and events, on disk too
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, also where timm and transformers call it
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
}


def switch_off() -> None:
    """Switches reports off for this process and those that it starts.

    What the environment says already is the user's choice, and stays.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)


class InCI:
    """A context in which openvino and nncf take this for an automatic build, and report nothing.

    They have no other switch in the environment. They look at this one when they are imported, and
    at each conversion.
    """

    def __enter__(self) -> None:
        self._before = os.environ.get("CI")
        os.environ["CI"] = "true"

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = self._before
