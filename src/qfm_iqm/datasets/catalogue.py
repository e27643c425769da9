"""All known datasets, by name."""

from qfm_iqm.datasets.biq2021 import BIQ2021
from qfm_iqm.datasets.csiq import CSIQ
from qfm_iqm.datasets.dataset import Dataset
from qfm_iqm.datasets.kadid10k import KADID10K
from qfm_iqm.datasets.koniq10k import KONIQ10K
from qfm_iqm.datasets.live import LIVE
from qfm_iqm.datasets.livec import LIVEC
from qfm_iqm.datasets.livefb import LIVEFB
from qfm_iqm.datasets.spaq import SPAQ
from qfm_iqm.datasets.tid2013 import TID2013
from qfm_iqm.errors import TableError

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (LIVE, CSIQ, TID2013, KADID10K, LIVEC, KONIQ10K, LIVEFB, SPAQ, BIQ2021)
}


def find_dataset(name: str) -> Dataset:
    """The dataset with this name.

    Raises:
        TableError: there is none; the message lists the known datasets.
    """
    if name not in DATASETS:
        raise TableError(unknown_dataset(name))
    return DATASETS[name]


def unknown_dataset(name: str) -> str:
    """The message for an unknown name, with a list of the known datasets."""
    return f"There is no dataset '{name}'; choose one of {', '.join(DATASETS)}."
