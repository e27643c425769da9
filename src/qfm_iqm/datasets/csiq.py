"""CSIQ: Categorical Subjective Image Quality."""

from pathlib import Path

from qfm_iqm.datasets.dataset import Dataset, label_file
from qfm_iqm.datasets.labelfiles import matched, read_lines, read_sheet
from qfm_iqm.datasets.table import RatedTable, content_of, finite_numbers, first_few
from qfm_iqm.errors import TableError

# Folder by each spelling of the kind in sheets and file names; then the spelling in file names.
_FOLDERS = {
    "noise": "awgn",
    "awgn": "awgn",
    "blur": "blur",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "jpeg": "jpeg",
    "jpeg 2000": "jpeg2000",
    "jpeg2000": "jpeg2000",
}
_IN_NAMES = {"awgn": "AWGN", "blur": "BLUR", "jpeg": "JPEG"}


def _read(root: Path) -> RatedTable:
    path = label_file(root, "csiq.DMOS.xlsx", "csiq_label.txt")
    columns: dict[str, tuple[str, ...]] = {}
    if path.suffix.lower() == ".xlsx":
        sheet = read_sheet(
            path, ("image", "dst_type", "dst_lev", "dmos_std", "dmos"), "all_by_image"
        )
        unknown = sorted({kind for kind in sheet["dst_type"] if kind.lower() not in _FOLDERS})
        if unknown:
            raise TableError(
                f"{path}: unknown distortions in the column dst_type ({first_few(unknown)})."
            )
        kinds = [_FOLDERS[kind.lower()] for kind in sheet["dst_type"]]
        contents, levels, labels = sheet["image"], sheet["dst_lev"], sheet["dmos"]
        files = [
            f"{content}.{_IN_NAMES.get(kind, kind)}.{level}.png"
            for content, kind, level in zip(contents, kinds, levels, strict=True)
        ]
        finite_numbers(path, "dmos_std", sheet["dmos_std"])
        columns["std"] = tuple(sheet["dmos_std"])
    else:
        lines = read_lines(path, 2)
        files, labels = [file for file, _ in lines], [label for _, label in lines]
        pattern = rf"(.+)\.({'|'.join(_FOLDERS)})\.(\d+)\.png"
        found = matched(pattern, files, path, "NAME.TYPE.LEVEL.png")
        contents = [one[1] for one in found]
        kinds = [_FOLDERS[one[2].lower()] for one in found]
        levels = [one[3] for one in found]
    return RatedTable(
        names=tuple(f"dst_imgs/{kind}/{file}" for kind, file in zip(kinds, files, strict=True)),
        mos=finite_numbers(path, "dmos", labels),
        contents=tuple(map(content_of, contents)),
        columns=columns | {"distortion": tuple(kinds), "level": tuple(levels)},
        source=str(path),
    )


CSIQ = Dataset(
    name="csiq",
    title="CSIQ",
    images=866,
    contents=30,
    label="DMOS",
    minimum=0,
    maximum=1,
    higher_is_better=False,
    lowest=0,
    highest=1,
    mean=0.3507,
    std=0.2625,
    folders=tuple(f"dst_imgs/{kind}" for kind in dict.fromkeys(_FOLDERS.values())),
    citation="Larson, Chandler: Most apparent distortion: full-reference image quality assessment "
    "and the role of strategy, Journal of Electronic Imaging 2010",
    source="https://s2.smu.edu/~eclarson/csiq.html",
    read=_read,
    batch_size=12,
    group="distortion",
)
