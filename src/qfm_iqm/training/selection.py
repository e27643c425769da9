"""Epoch selection: every epoch is validated; the selected model is tested once.

Images are scored by the same engine as `qfm score`. Only the first process runs this.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ImageError, InterruptedRunError, RecipeError, TableError
from qfm_iqm.evaluation.evaluate import card_results, evaluate_model, write_images
from qfm_iqm.evaluation.ledger import record_look
from qfm_iqm.metrics.correlation import METRICS
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.folder import load_card, load_model, save_model, save_with_card
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.crop_stream import CropSource
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.training.building import freeze
from qfm_iqm.training.data import TrainingData
from qfm_iqm.training.feature_cache import FeatureCache
from qfm_iqm.training.literature import EPOCH_METRICS, random_crops
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.run_folder import RunFolder
from qfm_iqm.training.state import StopRequest

SplitName = Literal["validation", "test"]  # that a model is evaluated on
LOGGED = ("srcc", "plcc")  # per epoch


class Selection:
    """Selects a run's best epoch by SRCC on the validation split.

    A run without a validation split (the literature's protocol) keeps the last epoch.

    Args:
        recipe: the run's recipe.
        data: the run's data.
        folder: the run's folder, for the best model, the log and the results.
        reporter: shows progress.
        stopping: the stop request; checked after every image.
        device: device for scoring images.
        features: the feature cache, if there is one.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        folder: RunFolder,
        reporter: Reporter,
        stopping: StopRequest,
        *,
        device: torch.device,
        features: FeatureCache | None,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.folder = folder
        self.reporter = reporter
        self.stopping = stopping
        self.device = device
        self.features = features
        self.best: dict[str, Any] = {"epoch": None, "srcc": None}

    def validate(self, model: QualityModel, epoch: int) -> None:
        """Scores the validation split, and saves the model if it is the best so far."""
        figures = self._validated(model, epoch)
        srcc = figures.get("whole/srcc")
        better = srcc is not None and (self.best["srcc"] is None or srcc > self.best["srcc"])
        if better or self.data.validation is None:
            self.best = {"epoch": epoch, "srcc": srcc}
            model.card.training |= {"best_epoch": epoch + 1, "validation_srcc": srcc}
            save_model(model, self.folder.best, dtype=self._dtype)
        self.folder.log(kind="validation", epoch=epoch, **figures)
        if self.recipe.protocol == "test-selected":
            self._evaluate_as_the_literature(model, epoch)
        self.reporter.end_epoch(epoch, figures, best=better)

    def _validated(self, model: QualityModel, epoch: int) -> dict[str, float | None]:
        """The figures of the validation split by `subset/metric`; empty without the split."""
        if self.data.validation is None:
            return {}
        try:
            scored = self._evaluate(model, self.data.validation, n_boot=0, metrics=LOGGED)
        except TableError as error:
            # A collapsed network has no correlation; a later epoch may still recover.
            self.reporter.say(f"epoch {epoch + 1} cannot be selected: {error}")
            return {}
        return _figures(scored[0])

    def finish(self, split: SplitName, network: Path | None = None) -> Evaluation:
        """Evaluates a model on a split, and writes the model folder with its figures.

        Args:
            split: "validation" or "test".
            network: folder of the model; None takes the best epoch.
        """
        place = network or self.folder.best
        model = load_model(place)
        freeze(model.network, self.recipe)
        table = self.data.test if split == "test" else self.data.validation
        if table is None:
            raise RecipeError("data.validation = 0 leaves no validation split to evaluate on.")
        evaluation, rows = self._evaluate(model, table, n_boot=1000)
        write_images(self.folder.scores(split), table, rows, self.recipe.data.group)
        evaluation.to_csv(self.folder.results, split_sha256=self.data.split.sha256)
        results = card_results(evaluation, f"{self.recipe.data.name} ({split} split)")
        card = model.card.model_copy(update={"results": results})
        save_with_card(place, card, self.folder.model)
        if split == "test":
            after_each = ", scored after each epoch too" * (self.recipe.protocol == "test-selected")
            why = f"final test of the training {self.recipe.model.name}{after_each}"
            record_look(evaluation, load_card(self.folder.model), self.folder.path, why)
        kind = "test" if split == "test" else "selected"
        self.folder.log(kind=kind, **_figures(evaluation))
        return evaluation

    def _evaluate_as_the_literature(self, model: QualityModel, epoch: int) -> None:
        """Logs the test figures on random crops; selects nothing by them."""
        source = random_crops(
            model.card.preprocessing,
            seed=self.recipe.train.seed,
            epoch=epoch,
            flip=self.recipe.train.flip,
            features=self.features,
        )
        try:
            scored = self._evaluate(
                model, self.data.test, n_boot=0, source=source, metrics=EPOCH_METRICS
            )
        except TableError as error:
            self.reporter.say(f"epoch {epoch + 1} has no test figure: {error}")
            return
        self.folder.log(kind="test-selected", epoch=epoch, **_figures(scored[0]))

    def _evaluate(
        self,
        model: QualityModel,
        table: RatedTable,
        *,
        n_boot: int,
        source: CropSource | None = None,
        metrics: Sequence[str] = tuple(METRICS),
    ) -> tuple[Evaluation, list[ScoreRow]]:
        if source is None and self.features is not None:
            source = self.features.covering
        return evaluate_model(
            model,
            table,
            self.data.root,
            by=self.recipe.data.group,
            n_boot=n_boot,
            device=self.device,
            progress=self._stoppable,
            source=source,
            metrics=metrics,
        )

    def _stoppable(self, rows: Iterator[ScoreRow], total: int) -> Iterator[ScoreRow]:
        """Shows the scoring's progress, and ends it on a stop request; a resume starts it over.

        An unreadable image ends it at once too: every later epoch would fail on it.
        """
        for row in self.reporter.scoring(rows, total):
            if self.stopping.asked:
                raise InterruptedRunError
            if row.error:
                raise ImageError(f"A rated image cannot be scored: {row.error}")
            yield row

    @property
    def _dtype(self) -> torch.dtype:
        # A model that is packed later must not be rounded first.
        packed = self.recipe.model.packed
        dtype: torch.dtype = getattr(torch, "float32" if packed else self.recipe.model.precision)
        return dtype


def _figures(evaluation: Evaluation) -> dict[str, float | None]:
    """An evaluation's values by `subset/metric`."""
    return {f"{row.subset}/{row.metric}": row.value for row in evaluation.rows}
