"""TID2013: Tampere Image Database."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import matched, read_lines, same_length
from qfm_iqm.datasets.table import RatedTable, content_of, find_below, finite_numbers

KINDS = (
    "additive Gaussian noise",
    "additive noise in color",
    "spatially correlated noise",
    "masked noise",
    "high frequency noise",
    "impulse noise",
    "quantization noise",
    "Gaussian blur",
    "image denoising",
    "JPEG compression",
    "JPEG2000 compression",
    "JPEG transmission errors",
    "JPEG2000 transmission errors",
    "non eccentricity pattern noise",
    "local block-wise distortions",
    "mean shift",
    "contrast change",
    "change of color saturation",
    "multiplicative Gaussian noise",
    "comfort noise",
    "lossy compression of noisy images",
    "color quantization with dither",
    "chromatic aberrations",
    "sparse sampling and reconstruction",
)
"""Kinds 01 to 24 in file names, as named in the database's paper."""


_DEVIATIONS = "mos_std.txt"


def _read(root: Path) -> RatedTable:
    path = label_file(root, "mos_with_names.txt")
    labels, files = zip(*read_lines(path, 2), strict=True) if path.stat().st_size else ((), ())
    found = matched(r"(I\d+)_(0[1-9]|1\d|2[0-4])_([1-5])\.bmp", files, path, "I01_01_1.bmp")
    columns = {
        "distortion": tuple(KINDS[int(one[2]) - 1] for one in found),
        "level": tuple(one[3] for one in found),
    }
    if (std_path := find_below(root, _DEVIATIONS)) is not None:
        std = [cells[0] for cells in read_lines(std_path, 1)]
        same_length(path, {"mos_with_names.txt": files, _DEVIATIONS: std})
        finite_numbers(std_path, "the standard deviations", std)
        columns["std"] = tuple(std)
    return RatedTable(
        names=tuple(f"distorted_images/{file}" for file in files),
        mos=finite_numbers(path, "the labels", labels),
        contents=tuple(content_of(one[1]) for one in found),
        columns=columns,
        source=str(path),
    )


TID2013 = Dataset(
    name="tid2013",
    title="TID2013",
    images=3000,
    contents=25,
    minimum=0,
    maximum=9,
    higher_is_better=True,
    lowest=0.2424,
    highest=7.2143,
    mean=4.4747,
    std=1.2397,
    folders=("distorted_images",),
    optional=((_DEVIATIONS, "std"),),
    citation="Ponomarenko et al.: Image database TID2013: peculiarities, results and "
    "perspectives, Signal Processing: Image Communication 2015",
    source="https://www.ponomarenko.info/tid2013.htm",
    read=_read,
    batch_size=48,  # ours; the paper's is unknown
    group="distortion",
)
