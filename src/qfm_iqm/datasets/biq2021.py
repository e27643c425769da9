"""BIQ2021: photos rated in a laboratory, in three subsets."""

from pathlib import Path

import numpy as np

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import matched
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable


def _read(root: Path) -> RatedTable:
    paths = {
        "train": label_file(root, "Train (Images and MOS).csv"),
        "test": label_file(root, "Test (Images and MOS).csv"),
    }
    tables = {split: read_table(path) for split, path in paths.items()}
    names = [name for table in tables.values() for name in table.names]
    found = matched(r"(ss\d+).*", names, root, "ss01 (1).jpg")
    return RatedTable(
        names=tuple(f"Images/{name}" for name in names),
        contents=tuple(names),
        mos=np.concatenate([t.mos for t in tables.values() if t.mos is not None]),
        columns={
            "subset": tuple(one[1].lower() for one in found),
            "split": tuple(split for split, table in tables.items() for _ in table.names),
        },
        source=f"{paths['train']} and {paths['test'].name}",
    )


BIQ2021 = Dataset(
    name="biq2021",
    title="BIQ2021",
    images=12000,
    contents=12000,
    minimum=0,
    maximum=1,
    higher_is_better=True,
    folders=("Images",),
    split="official",
    citation="Ahmed, Asif: BIQ2021: a large-scale blind image quality assessment database, "
    "Journal of Electronic Imaging 2022",
    source="https://github.com/nisarahmedrana/BIQ2021",
    read=_read,
    group="subset",
)
