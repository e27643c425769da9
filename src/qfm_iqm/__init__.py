"""QFM-IQM: no-reference image quality assessment.

    from qfm_iqm import load_model
    score = load_model().score("photo.jpg")
    print(score.value, score.crop_std)

The public API is what is named here; everything else may change. Names are imported on first use,
so that `import qfm_iqm` and `qfm --help` are fast.
"""

# Only standard library modules that Python loads at startup may be imported here: with
# `python -m qfm_iqm`, the current folder is on `sys.path` until `__main__` removes it.
from qfm_iqm.telemetry import switch_off

switch_off()  # before any library is imported and reads its switch

TYPE_CHECKING = False  # type checkers treat it as True
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
    if name == "__version__":  # defined in pyproject.toml alone
        from importlib import metadata

        return metadata.version("qfm-iqm")
    if name not in _HOMES:
        raise AttributeError(f"module 'qfm_iqm' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
