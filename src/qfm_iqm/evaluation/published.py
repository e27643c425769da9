"""Published figures to stand beside one's own: median SRCC and PLCC of ten splits.

From the papers' tables. Those of `unconfirmed` are cited from other papers or from memory: to be
checked before they are quoted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A method's figures on one dataset.

    Attributes:
        method: its name.
        dataset: as `datasets.catalogue` names it.
        srcc: median over splits.
        plcc: likewise.
        unconfirmed: not checked against the paper.
    """

    method: str
    dataset: str
    srcc: float
    plcc: float
    unconfirmed: bool = False


_DATASETS = ("live", "csiq", "tid2013", "kadid10k", "livec", "koniq10k", "livefb", "spaq")

# SRCC/PLCC in the order of _DATASETS; "-" for none, "?" for unconfirmed.
_FIGURES = {
    "BRISQUE": ".929/.944 - .626/.571 .528/.567 .629/.629 .681/.685 .303/.341 .809/.817",
    "HyperIQA": ".962/.966 .923/.942 .840/.858 .852/.845 .859/.882 .906/.917 .544/.602 .911/.915",
    "MUSIQ": ".940/.911 .871/.893 .773/.815 .875/.872 .702/.746 .916/.928 .566/.661 .918/.921",
    "TReS": ".969/.968 .922/.942 .863/.883 .859/.858 .846/.877 .915/.928 .544/.625 -",
    "DEIQT": ".980/.982 .946/.963? .892/.908 .889/.887 .875/.894 .921/.934 .571/.663 .919/.923",
    "LoDa": ".975/.979 - .869/.901 .931/.936 .876/.899 .932/.944 .578/.679 .925/.928",
    "QFM-IQM": ".981/.983? .954/.965? .916/.932? .906/.906? .891/.913 .922/.936 .567/.667 "
    ".920/.924",
}


def published(dataset: str) -> list[Published]:
    """The figures on a dataset; none for one that no paper of the list reports."""
    if dataset not in _DATASETS:
        return []
    found = []
    for method, text in _FIGURES.items():
        cell = text.split()[_DATASETS.index(dataset)]
        if cell != "-":
            srcc, plcc = map(float, cell.rstrip("?").split("/"))
            found.append(Published(method, dataset, srcc, plcc, cell.endswith("?")))
    return found
