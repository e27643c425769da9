"""The last stages after training: reference statistics, exports and model page."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import ImageError, TableError, counted
from qfm_iqm.evaluation.evaluate import rated_srcc
from qfm_iqm.evaluation.reference import LEAST, find_reference_statistics
from qfm_iqm.files import write_whole
from qfm_iqm.image.decode_pool import read_ahead
from qfm_iqm.image.load import ReadingPolicy
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.model.card_page import card_page
from qfm_iqm.model.folder import load_card, load_model, save_with_card
from qfm_iqm.model.locate import CARD_FILE, WEIGHTS_FILE, is_model
from qfm_iqm.scoring.inputs import find_images
from qfm_iqm.scoring.runtimes.base import Precision
from qfm_iqm.scoring.runtimes.export import Target, export
from qfm_iqm.scoring.runtimes.export_folder import export_name
from qfm_iqm.training.data import TrainingData
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_schema import CardConfig, ExportConfig
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.stages import file_hash

Place = tuple[Target, Precision, Path]


def weights_hash(weights: str | None) -> str:
    """Identifies initial weights by their content, not by their path."""
    if weights is not None and is_model(weights):
        return load_card(weights).weights_sha256
    if weights is not None and weights.endswith(".safetensors"):
        return file_hash(Path(weights))
    return str(weights)


def reference_table(recipe: Recipe, data: TrainingData) -> RatedTable:
    """The rated photos that the reference statistics are computed from."""
    assert recipe.reference is not None
    if recipe.reference.labels is not None:
        return read_table(recipe.table(recipe.reference.labels))
    assert data.reference is not None
    return data.reference


def check_reference(recipe: Recipe, data: TrainingData) -> None:
    """Refuses unsuitable reference photos before anything is trained.

    Raises:
        TableError: there are too few, or some were used for training or selection.
    """
    if recipe.reference is None:
        return
    table = reference_table(recipe, data)
    if len(table) < LEAST:
        raise TableError(
            f"Reference statistics need at least {LEAST} held-out photos, and [reference] has "
            f"{len(table)}: raise data.reference, or name a larger table in reference.labels."
        )
    splits = (data.train, *((data.validation,) if data.validation else ()))
    used = {path for split in splits for path in split.paths(data.root)}
    if shared := [path.name for path in table.paths(data.root) if path in used]:
        photos = counted(len(shared), "photo is", "photos are")
        raise TableError(
            f"{photos} used for training or selection and for reference statistics too "
            f"({first_few(shared)}): take photos without them in reference.labels."
        )


def check_held_out(recipe: Recipe, data: TrainingData, reporter: Reporter) -> None:
    """Decodes the images that are scored only after the training, so that it is not in vain.

    Raises:
        ImageError: one cannot be read.
    """
    paths = [str(path) for path in data.test.paths(data.root)]
    if recipe.reference is not None:
        paths += map(str, reference_table(recipe, data).paths(data.root))
    policy = ReadingPolicy(recipe.network.preprocessing)
    readings = read_ahead(paths, policy, min(8, usable_cores()), processes=False, max_memory=None)
    for reading in reporter.scoring(readings, len(paths), "checking test images"):
        if reading is not None and reading.error:
            raise ImageError(f"A rated image cannot be scored: {reading.error}")


def add_reference(
    recipe: Recipe, data: TrainingData, table: RatedTable, model: Path, reporter: Reporter
) -> list[Path]:
    """Adds the reference statistics to a model's card, and returns the card's file.

    Raises:
        TableError: there are fewer than 100 photos, no labels, or unreadable photos.
    """
    config = recipe.reference
    assert config is not None
    name = recipe.data.name or recipe.model.name
    default = config.labels.name if config.labels else f"{name} (reference images)"
    loaded = load_model(model)
    statistics = find_reference_statistics(
        loaded,
        table,
        data.root,
        seen=data.train,
        population=config.population or default,
        level=config.level,
        device="cpu" if recipe.train.device == "cpu" else None,
        progress=lambda items, total: reporter.scoring(items, total, "scoring"),
        watch=lambda items, total: reporter.scoring(items, total, "looking"),
    )
    save_with_card(
        model, loaded.card.model_copy(update={"reference_statistics": statistics}), model
    )
    interval, detector = statistics.interval, statistics.ood_detector
    assert interval is not None
    assert detector is not None
    shown = loaded.card.label.show_interval(interval)
    reporter.say(
        f"{statistics.images} reference photos. The score {shown} holds the mean opinion for "
        f"{interval.level:.0%} of such photos; cross-validated, it held {interval.coverage:.1%}. "
        f"{detector.false_alarms:.1%} of {detector.checked} others are marked as out of "
        "distribution."
    )
    return [model / CARD_FILE]


def export_places(config: ExportConfig, out: Path) -> list[Place]:
    """Target, precision and folder of each export of a run."""
    wanted: list[tuple[Target, Precision]] = [("onnx", precision) for precision in config.onnx]
    wanted += [("openvino", precision) for precision in config.openvino]
    return [
        (target, precision, out / "model" / export_name(target, precision))
        for target, precision in wanted
    ]


def export_photos(recipe: Recipe, data: TrainingData) -> list[Path]:
    """The photos for calibrating int8 and for comparing every export with its model."""
    assert recipe.export is not None
    if recipe.export.photos is None:
        return data.train.paths(data.root)
    return [Path(file) for file in find_images([str(recipe.table(recipe.export.photos))]).files]


def write_exports(
    model: Path, places: Sequence[Place], photos: Sequence[Path], data: TrainingData
) -> list[Path]:
    """Writes the exports of a model, and returns their files.

    Raises:
        ModelError: an export's scores differ from the model's, or its SRCC on the validation
            split is lower.
    """
    files = []
    for target, precision, folder in places:
        folder.parent.mkdir(exist_ok=True)
        rated = None
        if precision == "int8" and data.validation is not None:
            rated = partial(rated_srcc, table=data.validation, root=data.root)
        export(
            load_model(model),
            folder,
            target,
            precision=precision,
            photos=[str(photo) for photo in photos],
            rated=rated,
            weights=model / WEIGHTS_FILE,
        )
        files += sorted(folder.iterdir())
    return files


def write_page(config: CardConfig, model: Path, page: Path) -> list[Path]:
    """Writes the card of a model as a page, and returns its path.

    Raises:
        TableError: results cannot be read, or lack columns.
    """
    text = card_page(
        load_card(model),
        degradation=config.degradation,
        size_and_frame=config.size_and_frame,
        causes=config.causes,
        speed=config.speed,
        notes=config.notes,
        beside=page.parent,
    )
    write_whole(text, page)
    return [page]
