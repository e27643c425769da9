"""Published SRCC and PLCC from the papers' tables, for comparison.

Figures are the median over ten splits; for BIQ2021, they are on its official split. Those marked
unconfirmed are cited from other papers or from memory, and must be checked before they are quoted.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A method's figures on one dataset.

    Attributes:
        method: name of the method.
        srcc: median SRCC over splits; None if the paper gives none.
        plcc: median PLCC over splits; None if the paper gives none.
        unconfirmed: whether it was not checked against the paper.
        splits: number of splits.
    """

    method: str
    srcc: float | None
    plcc: float | None
    unconfirmed: bool = False
    splits: int = 10


_DATASETS = ("live", "csiq", "tid2013", "kadid10k", "livec", "koniq10k", "livefb", "spaq")

# SRCC/PLCC in the order of _DATASETS; "-" for none, "?" for unconfirmed. The entries from CMPA on
# are only the best figures of later methods.
_FIGURES = {
    "BRISQUE": ".929/.944 - .626/.571 .528/.567 .629/.629 .681/.685 .303/.341 .809/.817",
    "HyperIQA": ".962/.966 .923/.942 .840/.858 .852/.845 .859/.882 .906/.917 .544/.602 .911/.915",
    "MUSIQ": ".940/.911 .871/.893 .773/.815 .875/.872 .702/.746 .916/.928 .566/.661 .918/.921",
    "TReS": ".969/.968 .922/.942 .863/.883 .859/.858 .846/.877 .915/.928 .544/.625 -",
    "DEIQT": ".980/.982 .946/.963? .892/.908 .889/.887 .875/.894 .921/.934 .571/.663 .919/.923",
    "LoDa": ".975/.979 - .869/.901 .931/.936 .876/.899 .932/.944 .578/.679 .925/.928",
    "QFM-IQM": ".981/.983? .954/.965? .916/.932? .906/.906? .891/.913 .922/.936 .567/.667 "
    ".920/.924",
    "CMPA": ".983/.987 - - .938/.941 .903/.918 .938/.948 - .929/.934",
    "CSFIQA": "- .967/- - - - - - -",
    "LML-IQA": "- -/.977 -/.942 - - - - -",
    "GRMP": "- - - - - - .616/.704 -",
}

_BIQ2021 = {
    "PIQE": ".213/-",
    "NIQE": ".356/-",
    "BRISQUE": ".603/-",
    "NBIQA": ".642/-",
    "NASNet-Large": ".6725/.7083",
    "SGL-IQA": ".71/-",
    "DeepEns": ".7922/.8098",
}

# Cross-dataset SRCC of DEIQT, by (training dataset, test dataset).
_CROSS = {
    ("livefb", "koniq10k"): 0.733,
    ("livefb", "livec"): 0.781,
    ("livec", "koniq10k"): 0.744,
    ("koniq10k", "livec"): 0.794,
}


def published(dataset: str) -> list[Published]:
    """The published figures on a dataset of `datasets.catalogue`; empty if there are none."""
    if dataset == "biq2021":
        return [Published(method, *_pair(cell), splits=1) for method, cell in _BIQ2021.items()]
    if dataset not in _DATASETS:
        return []
    place = _DATASETS.index(dataset)
    cells = {method: text.split()[place] for method, text in _FIGURES.items()}
    return [
        Published(method, *_pair(cell), unconfirmed=cell.endswith("?"))
        for method, cell in cells.items()
        if cell != "-"
    ]


def published_cross(trained_on: str, tested_on: str) -> Published | None:
    """DEIQT trained on one dataset and tested on another; None if not reported."""
    srcc = _CROSS.get((trained_on, tested_on))
    return None if srcc is None else Published("DEIQT", srcc, None)


def _pair(cell: str) -> tuple[float | None, float | None]:
    """Parses a cell into SRCC and PLCC."""
    srcc, plcc = (None if text == "-" else float(text) for text in cell.rstrip("?").split("/"))
    return srcc, plcc
