"""LIVE-FB (FLIVE, PaQ-2-PiQ): the largest dataset of rated photos."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError

# Split by each spelling in the column is_valid.
_SPLITS = {
    **dict.fromkeys(("1", "1.0", "true"), "test"),
    **dict.fromkeys(("0", "0.0", "false"), "train"),
}


def _read(root: Path) -> RatedTable:
    path = label_file(root, "labels_image.csv", "database/labels_image.csv")
    table = read_table(path)
    columns = {}
    if "is_valid" in table.columns:  # only later releases mark the authors' validation split
        marks = [value.lower() for value in table.column("is_valid")]
        if unknown := sorted({mark for mark in marks if mark not in _SPLITS}):
            raise TableError(
                f"{path}: the column is_valid must hold True or False, but also holds "
                f"{first_few([repr(mark) for mark in unknown])}."
            )
        columns["split"] = tuple(_SPLITS[mark] for mark in marks)
    return RatedTable(
        names=tuple(f"database/{name}" for name in table.names),
        contents=table.names,
        mos=table.mos,
        columns=columns | {"subset": tuple(name.partition("/")[0] for name in table.names)},
        source=str(path),
    )


LIVEFB = Dataset(
    name="livefb",
    title="LIVE-FB",
    images=39810,
    contents=39810,
    minimum=0,
    maximum=100,
    higher_is_better=True,
    lowest=0,
    highest=94.3332,
    mean=72.1325,
    std=6.1624,
    folders=("database",),
    split="official where marked",
    citation="Ying et al.: From patches to pictures (PaQ-2-PiQ): mapping the perceptual space of "
    "picture quality, CVPR 2020",
    source="https://github.com/baidut/PaQ-2-PiQ",
    read=_read,
    batch_size=256,
)
