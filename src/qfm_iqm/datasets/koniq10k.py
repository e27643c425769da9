"""KonIQ-10k: photos from Flickr, 1024 x 768."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import SPLITS, Split, official_split
from qfm_iqm.datasets.table import RatedTable, find_below, finite_numbers
from qfm_iqm.errors import TableError

_FOLDERS = ("1024x768", "512x384")
_SCORES = "koniq10k_scores_and_distributions.csv"
_SETS = "koniq10k_distributions_sets.csv"


def _places(name: str) -> tuple[str, str]:
    """Paths of a label file: at the root, or in the folder that its archive unpacks to."""
    return name, f"{name.removesuffix('.csv')}/{name}"


def _read(root: Path) -> RatedTable:
    """Reads either label file; the label on 0-100 is MOS_zscore in one and MOS in the other."""
    path = label_file(root, *_places(_SCORES), *_places(_SETS))
    in_sets = path.name.lower() == _SETS
    table = read_table(path, label="MOS" if in_sets else "MOS_zscore")
    folder = next((name for name in _FOLDERS if find_below(root, name)), _FOLDERS[0])
    finite_numbers(path, "SD", std := table.column("sd"))
    columns = {"std": std}
    beside = (find_below(root, place) for place in _places(_SETS))
    sets = path if in_sets else next((one for one in beside if one is not None), None)
    if sets is not None:
        split = official_split(read_table(sets, label="MOS"))
        columns["split"] = _splits_of(split, table, sets)
    return RatedTable(
        names=tuple(f"{folder}/{name}" for name in table.names),
        contents=table.names,
        mos=table.mos,
        columns=columns,
        source=str(path),
    )


def _splits_of(split: Split, table: RatedTable, sets: Path) -> tuple[str, ...]:
    """The split of each image of a table."""
    split_of = {name: s for s in SPLITS for name in split.names(s)}
    lost = [name for name in table.names if name not in split_of]
    if lost:
        raise TableError(
            f"{sets} has no split for {len(lost)} images of {table.source}: {lost[0]}."
        )
    return tuple(split_of[name] for name in table.names)


KONIQ10K = Dataset(
    name="koniq10k",
    title="KonIQ-10k",
    images=10073,
    contents=10073,
    minimum=0,
    maximum=100,
    higher_is_better=True,
    lowest=3.9118,
    highest=88.3889,
    mean=58.7296,
    std=15.4317,
    folders=_FOLDERS,
    split="official",
    optional=((_SETS, "split"),),
    citation="Hosu, Lin, Sziranyi, Saupe: KonIQ-10k: an ecologically valid database for deep "
    "learning of blind image quality assessment, IEEE TIP 2020",
    terms="see site; the photos are under Creative Commons licenses",
    source="https://database.mmsp-kn.de/koniq-10k-database.html",
    read=_read,
    squeezed=(512, 384),
)
