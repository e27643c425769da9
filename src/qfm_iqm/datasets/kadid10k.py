"""KADID-10k: Konstanz artificially distorted image quality database."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import matched
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable, content_of, finite_numbers, first_few
from qfm_iqm.errors import TableError

KINDS = (
    "Gaussian blur",
    "lens blur",
    "motion blur",
    "color diffusion",
    "color shift",
    "color quantization",
    "color saturation 1",
    "color saturation 2",
    "JPEG2000",
    "JPEG",
    "white noise",
    "white noise in color component",
    "impulse noise",
    "multiplicative noise",
    "denoise",
    "brighten",
    "darken",
    "mean shift",
    "jitter",
    "non-eccentricity patch",
    "pixelate",
    "quantization",
    "color block",
    "high sharpen",
    "contrast change",
)
"""Kinds 01 to 25 in file names, as named in the database's paper."""


def _read(root: Path) -> RatedTable:
    path = label_file(root, "dmos.csv")
    table = read_table(path, label="dmos")
    assert table.mos is not None
    found = matched(
        r"(I\d+)_(0[1-9]|1\d|2[0-5])_0?([1-5])\.png", table.names, path, "I01_01_01.png"
    )
    contents = tuple(content_of(one[1]) for one in found)
    wrong = [
        name
        for name, content, said in zip(table.names, contents, table.contents, strict=True)
        if said != content
    ]
    if wrong:
        raise TableError(
            f"{path}: ref_img must be the photo that the image's name begins with, but for "
            f"{len(wrong)} images it is not ({first_few(wrong)})."
        )
    # The column is named var but holds deviations: ratings 4 and 5 with mean 4.57 deviate by .495.
    finite_numbers(path, "var", std := table.column("var"))
    return RatedTable(
        names=tuple(f"images/{name}" for name in table.names),
        mos=table.mos,
        contents=contents,
        columns={
            "std": std,
            "distortion": tuple(KINDS[int(one[2]) - 1] for one in found),
            "level": tuple(one[3] for one in found),
        },
        source=str(path),
    )


KADID10K = Dataset(
    name="kadid10k",
    title="KADID-10k",
    images=10125,
    contents=81,
    label="DMOS",
    minimum=1,
    maximum=5,
    higher_is_better=True,  # although its column is called dmos
    lowest=1,
    highest=4.93,
    mean=3.0326,
    std=1.0826,
    folders=("images",),
    unlabeled=tuple(f"I{n:02}.png" for n in range(1, 82)),
    citation="Lin, Hosu, Saupe: KADID-10k: a large-scale artificially distorted IQA database, "
    "QoMEX 2019",
    source="https://database.mmsp-kn.de/kadid-10k-database.html",
    read=_read,
    group="distortion",
)
