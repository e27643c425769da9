"""A model as a Hugging Face hub repository: its folder, with exports and a `README.md`.

The hub reads the front matter of the page: license, data, metrics with their intervals. Every
figure comes from `card.json`. Nothing is uploaded.
"""

import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from qfm_iqm.errors import ModelError, TableError
from qfm_iqm.files import write_whole
from qfm_iqm.model.card import ModelCard, ResultRow
from qfm_iqm.model.card_page import SUBSETS, card_page
from qfm_iqm.model.folder import load_card, save_with_card

PAGE_FILE = "README.md"
# The hub has no task for image quality; it lists text regression under classification, too.
TASK = "image-classification"
# License identifiers of the hub; any other license is "other" with its own name.
_LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "mpl-2.0"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "unknown"),
)
_USE = """
## Use

OWNER/NAME is the name of this repository on the hub.

    qfm score photos/ --model hub:OWNER/NAME

```python
from qfm_iqm import load_model

score = load_model("hub:OWNER/NAME").score("photo.jpg")
```
"""


def save_hub_folder(name: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Writes a model folder, with its exports, that is ready for upload to the hub.

    Args:
        name: model name, as for `load_model`.
        folder: created if missing; an earlier model in it is replaced.

    Raises:
        ModelError: there is no such model, or the folder cannot be written.
    """
    card = load_card(name)
    save_with_card(name, card, folder)
    try:
        write_whole(hub_page(load_card(folder)), Path(folder) / PAGE_FILE)
    except TableError as error:
        raise ModelError(f"The model cannot be written to {folder}: {error}") from error


def hub_page(card: ModelCard) -> str:
    """A model's card in the hub's format: YAML front matter, then the page."""
    known = card.license.partition(";")[0].strip()
    spelled = known.lower() or "unknown"
    other = spelled not in _LICENSES
    facts = ModelCardData(
        base_model=None if card.base is None else f"timm/{card.base.name}",
        datasets=[_dataset(data)] if (data := card.training.get("data")) else None,
        eval_results=[_figure(row) for row in card.results] or None,
        library_name="qfm-iqm",
        license="other" if other else spelled,
        license_name=_slug(known) if other else None,
        metrics=list(dict.fromkeys(row.metric for row in card.results)) or None,
        model_name=card.name,
        pipeline_tag=TASK,
        tags=["image-quality-assessment", "no-reference", "qfm-iqm"],
    )
    return f"---\n{facts.to_yaml()}\n---\n\n{card_page(card, missing=False)}{_USE}"


def _figure(row: ResultRow) -> EvalResult:
    metric = row.metric.upper().replace("_", " ")
    return EvalResult(
        task_type=TASK,
        task_name="no-reference image quality assessment",
        dataset_type=_slug(_dataset(row.data)),
        dataset_name=row.data,
        dataset_config=SUBSETS.get(row.subset, row.subset),
        metric_type=row.metric,
        metric_value=round(row.value, 4),
        # The hub has no field for intervals, so the metric's name contains it.
        metric_name=f"{metric}, 95% interval {row.ci_low:.4f} to {row.ci_high:.4f}",
    )


def _dataset(data: str) -> str:
    """The name of a dataset, without the details that a card adds after a comma."""
    return data.partition(",")[0].strip()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
