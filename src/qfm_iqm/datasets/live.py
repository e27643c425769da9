"""LIVE Image Quality Assessment Database, release 2."""

from pathlib import Path

import numpy as np

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import read_mat, same_length
from qfm_iqm.datasets.table import RatedTable, content_of, finite_numbers
from qfm_iqm.errors import TableError

TERMS = "any purpose, with LIVE's copyright notice and the source acknowledged"
"""Summary of the terms in the readme of LIVE's downloads."""

# In the order of the label files, each kind with img1.bmp, img2.bmp ...
_KINDS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def _read(root: Path) -> RatedTable:
    path = label_file(root, "dmos_realigned.mat")
    dmos, std, orgs = read_mat(path, "dmos_new", "dmos_std", "orgs")
    (references,) = read_mat(label_file(root, "refnames_all.mat"), "refnames_all")
    names = [f"{kind}/img{n}.bmp" for kind, count in _KINDS.items() for n in range(1, count + 1)]
    rows = same_length(
        path, {"dmos_new": dmos, "dmos_std": std, "orgs": orgs, "refnames_all": references}
    )
    if rows != len(names):
        raise TableError(f"{path} must hold {len(names)} labels, but it holds {rows}.")
    # The degraded images include copies of the references, which have no label.
    kept = np.flatnonzero(finite_numbers(path, "orgs", orgs) == 0).tolist()
    deviations = finite_numbers(path, "dmos_std", [std[i] for i in kept])
    return RatedTable(
        names=tuple(names[i] for i in kept),
        mos=finite_numbers(path, "dmos_new", [dmos[i] for i in kept]),
        contents=tuple(content_of(str(references[i])) for i in kept),
        columns={
            "std": tuple(map(repr, deviations.tolist())),
            "distortion": tuple(names[i].partition("/")[0] for i in kept),
        },
        source=str(path),
    )


LIVE = Dataset(
    name="live",
    title="LIVE",
    images=779,
    contents=29,
    label="DMOS",
    minimum=0,
    maximum=100,
    higher_is_better=False,
    # Realigned labels exceed the scale at both ends. pyiqa's list has them before realignment.
    lowest=-2.65,
    highest=111.78,
    folders=tuple(_KINDS),
    citation="Sheikh, Sabir, Bovik: A statistical evaluation of recent full reference image "
    "quality assessment algorithms, IEEE TIP 2006",
    terms=TERMS,
    source="https://live.ece.utexas.edu/research/quality/subjective.htm",
    read=_read,
    batch_size=12,
    group="distortion",
)
