"""QFM-IQM: how good a photo looks to people, without a reference.

    from qfm_iqm import load_model
    score = load_model().score("photo.jpg")
    print(score.value, score.crop_std)

What is promised is what is named here; everything else may move. Names are imported when they
are first used, so that `import qfm_iqm` and `qfm --help` cost nothing.
"""

# No module of Python's own is imported here but what Python has loaded at its start: with
# `python -m qfm_iqm` these lines run while the current folder is still searched, until `__main__`.
from qfm_iqm.telemetry import switch_off

switch_off()  # libraries read their switches when they are imported, wherever that happens

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from typing import Any

    from qfm_iqm.errors import QFMError
    from qfm_iqm.image.decode import read_image
    from qfm_iqm.integrations.metric import QualityMetric
    from qfm_iqm.model.folder import load_model, save_model
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.model.prediction import QualityScore
    from qfm_iqm.model.quality_map import QualityMap
    from qfm_iqm.scoring.runtimes.load import load_runtime
    from qfm_iqm.scoring.scorer import Scorer

    __version__: str

__all__ = [
    "QFMError",
    "QualityMap",
    "QualityMetric",
    "QualityModel",
    "QualityScore",
    "Scorer",
    "load_model",
    "load_runtime",
    "read_image",
    "save_model",
]

_HOMES = {
    "QFMError": "qfm_iqm.errors",
    "QualityMap": "qfm_iqm.model.quality_map",
    "QualityMetric": "qfm_iqm.integrations.metric",
    "QualityModel": "qfm_iqm.model.model",
    "QualityScore": "qfm_iqm.model.prediction",
    "Scorer": "qfm_iqm.scoring.scorer",
    "load_model": "qfm_iqm.model.folder",
    "load_runtime": "qfm_iqm.scoring.runtimes.load",
    "read_image": "qfm_iqm.image.decode",
    "save_model": "qfm_iqm.model.folder",
}


def __getattr__(name: str) -> "Any":
    if name == "__version__":  # pyproject.toml says it, and nothing else does
        from importlib import metadata

        return metadata.version("qfm-iqm")
    if name not in _HOMES:
        raise AttributeError(f"module 'qfm_iqm' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
