"""LIVE-FB (FLIVE, PaQ-2-PiQ): the largest rated set of photos."""

from __future__ import annotations

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable


def _read(root: Path) -> RatedTable:
    path = label_file(root, "labels_image.csv", "database/labels_image.csv")
    table = read_table(path)
    columns = {}
    if "is_valid" in table.columns:  # later releases mark the authors' validation part
        held = ("1", "1.0", "true")
        columns["split"] = tuple(
            "test" if value.lower() in held else "train" for value in table.column("is_valid")
        )
    return RatedTable(
        names=tuple(f"database/{name}" for name in table.names),
        mos=table.mos,
        columns=columns | {"subset": tuple(name.partition("/")[0] for name in table.names)},
        source=str(path),
    )


LIVEFB = Dataset(
    name="livefb",
    title="LIVE-FB",
    images=39810,
    contents=39810,
    label="MOS",
    minimum=0,
    maximum=100,
    higher_is_better=True,
    mean=72.1325,
    std=6.1624,
    folders=("database",),
    synthetic=False,
    citation="Ying et al.: From patches to pictures (PaQ-2-PiQ): mapping the perceptual space of "
    "picture quality, CVPR 2020",
    terms="research use",
    source="https://github.com/baidut/PaQ-2-PiQ",
    read=_read,
)
