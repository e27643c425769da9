"""SPAQ: Smartphone Photography Attribute and Quality."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import read_sheet
from qfm_iqm.datasets.table import RatedTable, finite_numbers

_ATTRIBUTES = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")


def _read(root: Path) -> RatedTable:
    path = label_file(
        root,
        "Annotations/MOS and Image attribute scores.xlsx",
        "MOS and Image attribute scores.xlsx",
    )
    sheet = read_sheet(path, ("Image name", "MOS", *_ATTRIBUTES))
    return RatedTable(
        names=tuple(f"TestImage/{name}" for name in sheet["image_name"]),
        contents=tuple(sheet["image_name"]),
        mos=finite_numbers(path, "MOS", sheet["mos"]),
        columns={name.lower(): tuple(sheet[name.lower()]) for name in _ATTRIBUTES},
        source=str(path),
    )


SPAQ = Dataset(
    name="spaq",
    title="SPAQ",
    images=11125,
    contents=11125,
    minimum=0,
    maximum=100,
    higher_is_better=True,
    lowest=2,
    highest=96,
    mean=50.3179,
    std=20.9014,
    folders=("TestImage",),
    citation="Fang, Zhu, Zeng, Ma, Wang: Perceptual quality assessment of smartphone photography, "
    "CVPR 2020",
    source="https://github.com/h4nwei/SPAQ",
    read=_read,
    shorter_side=512,
    squeezed=(512, 384),
)
