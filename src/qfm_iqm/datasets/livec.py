"""LIVE In the Wild Image Quality Challenge Database (LIVEC, CLIVE, LIVE Challenge)."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import read_mat, same_length
from qfm_iqm.datasets.live import TERMS
from qfm_iqm.datasets.table import RatedTable, finite_numbers

# Images for training the raters; they come first in the files and are in no experiment.
_TRAINING = frozenset(f"t{n}.bmp" for n in range(1, 8))


def _read(root: Path) -> RatedTable:
    path = label_file(root, "Data/AllMOS_release.mat")
    (mos,) = read_mat(path, "AllMOS_release")
    std_path = label_file(root, "Data/AllStdDev_release.mat")
    (std,) = read_mat(std_path, "AllStdDev_release")
    (names,) = read_mat(label_file(root, "Data/AllImages_release.mat"), "AllImages_release")
    same_length(
        path,
        {"AllImages_release": names, "AllMOS_release": mos, "AllStdDev_release": std},
    )
    kept = [i for i, name in enumerate(names) if name.lower() not in _TRAINING]
    deviations = finite_numbers(std_path, "AllStdDev_release", [std[i] for i in kept])
    return RatedTable(
        names=tuple(f"Images/{names[i]}" for i in kept),
        contents=tuple(names[i] for i in kept),
        mos=finite_numbers(path, "AllMOS_release", [mos[i] for i in kept]),
        columns={"std": tuple(map(repr, deviations.tolist()))},
        source=str(path),
    )


LIVEC = Dataset(
    name="livec",
    title="LIVE Challenge",
    images=1162,
    contents=1162,
    minimum=0,
    maximum=100,
    higher_is_better=True,
    lowest=3.42,
    highest=92.432,
    mean=55.4013,
    std=20.2965,
    folders=("Images",),
    unlabeled=tuple(sorted(_TRAINING)),
    citation="Ghadiyaram, Bovik: Massive online crowdsourced study of subjective and objective "
    "picture quality, IEEE TIP 2016",
    terms=TERMS,
    source="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    read=_read,
    batch_size=16,
)
