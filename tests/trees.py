"""Small trees in the exact formats of the official downloads: real .mat, .xlsx, CSV and text.

Each has a few contents, and images of 48 x 48 pixels whose noise follows their label; a standard
deviation is a tenth of its label, so that it can be identified. The trees copy the oddities of the
real files: varying letter case, a byte-order mark, Windows line ends, trailing commas, headers that
begin in the fourth row.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from PIL import Image
from scipy.io import savemat

Row = tuple[str, float]
SIDE = 48


def photo(path: Path, content: int, noise: float) -> None:
    """An image file: smooth colors that the content decides, under noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng([content, round(1000 * noise)])
    cells = np.random.default_rng(content).integers(40, 216, (5, 5, 3), dtype=np.uint8)
    field = np.asarray(Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    noisy = field + draw.normal(0, 60 * noise, field.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


def write_csv(
    path: Path, header: Sequence[str], rows: list[Sequence[object]], *, start: str = "", end: str
) -> None:
    """A CSV file with a start such as a byte-order mark, and its own line endings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(start)
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(header)
        writer.writerows(rows)


def live(root: Path, contents: int) -> list[Row]:
    kinds = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    names = [f"{kind}/img{n}.bmp" for kind, count in kinds.items() for n in range(1, count + 1)]
    orgs, dmos = np.ones(982), np.zeros(982)
    references = np.empty((1, 982), dtype=object)
    references[:] = "ocean.bmp"
    rows = []
    # Most are copies of references, so that the files keep their length of 982.
    for kind in kinds:
        first = names.index(f"{kind}/img2.bmp")
        for number in range(2 * contents):
            place, content, level = first + number, number % contents, number // contents
            noise = 0.2 + 0.5 * level + 0.02 * content
            # Realigned labels exceed the scale of 0 to 100 at both ends.
            orgs[place], dmos[place] = 0, 190 * noise - 40 + 0.123456789
            references[0, place] = f"scene{content}.bmp"
            photo(root / names[place], content, noise)
            rows.append((names[place], dmos[place]))
    for content in range(contents):
        photo(root / "refimgs" / f"scene{content}.bmp", content, 0)
    savemat(
        root / "dmos_realigned.mat",
        {"dmos_new": dmos[None], "dmos_std": abs(dmos[None]) / 10, "orgs": orgs[None]},
    )
    savemat(root / "refnames_all.mat", {"refnames_all": references})
    return rows


def csiq(root: Path, contents: int) -> list[Row]:
    kinds = {
        "noise": ("awgn", "AWGN"),
        "blur": ("blur", "BLUR"),
        "contrast": ("contrast", "contrast"),
        "fnoise": ("fnoise", "fnoise"),
        "jpeg": ("jpeg", "JPEG"),
        "jpeg 2000": ("jpeg2000", "jpeg2000"),
    }
    book = Workbook()
    book.active.title = "by_type"
    sheet = book.create_sheet("all_by_image")
    header = ("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
    for column, name in enumerate(header, start=4):
        sheet.cell(4, column, name)
    rows, line = [], 5
    for content in range(contents):
        image: int | str = 1600 + content if content % 2 == 0 else f"scene_{content}"
        photo(root / "src_imgs" / f"{image}.png", content, 0)
        for index, (kind, (folder, spelling)) in enumerate(kinds.items(), start=1):
            for level in (1, 4):
                dmos = round(0.1 + 0.2 * level + 0.01 * content, 6)
                name = f"dst_imgs/{folder}/{image}.{spelling}.{level}.png"
                photo(root / name, content, dmos)
                cells = (image, index, kind, level, round(dmos / 10, 6), dmos)
                for column, cell in enumerate(cells, start=4):
                    sheet.cell(line, column, cell)
                line += 1
                rows.append((name, dmos))
    book.save(root / "csiq.DMOS.xlsx")
    return rows


def tid2013(root: Path, contents: int) -> list[Row]:
    rows, lines, deviations = [], [], []
    for content in range(1, contents + 1):
        photo(root / "reference_images" / f"I{content:02}.BMP", content, 0)
        for kind in (1, 8, 11, 24):
            for level in (1, 5):
                # As in the real list, the case of names varies, and differs from the disk's.
                ending = "BMP" if kind == 11 else "bmp"
                letter = "I" if kind == 1 and level == 1 else "i"
                name = f"{letter}{content:02}_{kind:02}_{level}.{ending}"
                mos = round(7 - level + 0.1 * content, 5)
                photo(root / "distorted_images" / name.lower(), content, level / 8)
                lines.append(f"{mos:.5f} {name}")
                deviations.append(f"{mos / 10:.5f}")
                rows.append((f"distorted_images/{name}", mos))
    (root / "mos_with_names.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    (root / "mos_std.txt").write_bytes("\r\n".join([*deviations, ""]).encode())
    return rows


def kadid10k(root: Path, contents: int) -> list[Row]:
    rows, table = [], []
    for content in range(1, contents + 1):
        photo(root / "images" / f"I{content:02}.png", content, 0)
        for kind in (1, 10, 25):
            for level in (1, 3, 5):
                name = f"I{content:02}_{kind:02}_{level:02}.png"
                mos = round(5 - 0.7 * level - 0.01 * content, 2)
                photo(root / "images" / name, content, level / 6)
                table.append((name, f"I{content:02}.png", mos, round(mos / 10, 3)))
                rows.append((f"images/{name}", mos))
    write_csv(root / "dmos.csv", ("dist_img", "ref_img", "dmos", "var"), table, end="\n")
    return rows


def livec(root: Path, contents: int) -> list[Row]:
    names = [f"t{n}.bmp" for n in range(1, 8)]
    names += [f"{n}.{'bmp' if n % 2 else 'JPG'}" for n in range(1, 6 * contents + 1)]
    mos = np.array([50.5 + 35 * np.cos(n) for n in range(len(names))])
    for number, name in enumerate(names):
        folder = root / "Images" / ("trainingImages" if name[0] == "t" else "")
        photo(folder / name, number, 1 - mos[number] / 100)
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    (root / "Data").mkdir()
    savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells})
    savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": mos[None]})
    savemat(root / "Data/AllStdDev_release.mat", {"AllStdDev_release": mos[None] / 10})
    return [(f"Images/{names[i]}", mos[i]) for i in range(7, len(names))]


def koniq10k(root: Path, contents: int) -> list[Row]:
    rows, scores, sets = [], [], []
    for number in range(6 * contents):
        mos = round(50.5 + 35 * np.sin(number), 10)
        name = f"{10004473376 + number}.jpg"
        photo(root / "512x384" / name, number, 1 - mos / 100)
        shares = [0.0, 0.0, 0.25, 0.5, 0.25, 105]
        deviation = round(mos / 10, 10)
        scores.append((name, *shares, round(mos / 20, 4), deviation, mos))
        part = ("training", "training", "training", "training", "validation", "test")[number % 6]
        sets.append((name, *shares, mos, deviation, part))
        rows.append((f"512x384/{name}", mos))
    header = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total")
    # One is unpacked into a folder of its name, the other is at the root.
    write_csv(
        root / "koniq10k_scores_and_distributions" / "koniq10k_scores_and_distributions.csv",
        (*header, "MOS", "SD", "MOS_zscore"),
        scores,
        end="\r\n",
    )
    name = "koniq10k_distributions_sets.csv"
    write_csv(root / name, (*header, "MOS", "SD", "set"), sets[::-1], end="\n")
    return rows


def livefb(root: Path, contents: int) -> list[Row]:
    rows = []
    for number in range(6 * contents):
        mos = 72.5 + 20 * np.sin(number)
        folder = ("blur_dataset", "voc_emotic_ava", "EE371R")[number % 3]
        name = f"{folder}/motion{number:04}.jpg"
        photo(root / "database" / name, number, 1 - mos / 100)
        rows.append((name, float(mos)))
    write_csv(root / "labels_image.csv", ("name", "mos"), rows, end="\n")
    return [(f"database/{name}", mos) for name, mos in rows]


def spaq(root: Path, contents: int) -> list[Row]:
    attributes = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")
    book = Workbook()
    book.active.append(("Image name", "MOS", *attributes))
    rows = []
    for number in range(1, 6 * contents + 1):
        mos = round(50.0 + 45 * np.cos(number), 2)
        name = f"{number:05}.jpg"
        photo(root / "TestImage" / name, number, 1 - mos / 100)
        book.active.append((name, mos, 50, 40.5, 30, 20, 60))
        rows.append((f"TestImage/{name}", mos))
    (root / "Annotations").mkdir()
    book.save(root / "Annotations/MOS and Image attribute scores.xlsx")
    return rows


def biq2021(root: Path, contents: int) -> list[Row]:
    rows = []
    for part in ("Train", "Test"):
        table: list[Sequence[object]] = []
        for number in range(4 * contents if part == "Train" else 2 * contents):
            subset = 1 + number % 3
            place = number + (100 if part == "Test" else 0)
            name = f"ss{subset:02} ({place}).jpg"
            mos = round(0.5 + 0.4 * np.sin(place), 4)
            photo(root / "Images" / name.replace("ss", "SS"), place, 1 - mos)
            table.append((name, mos, "", ""))
            rows.append((f"Images/{name}", mos))
        path = root / f"{part} (Images and MOS).csv"
        write_csv(path, ("Image Name", "MOS", "", ""), table, start="\ufeff", end="\r\n")
    return rows


WRITERS = {
    writer.__name__: writer
    for writer in (live, csiq, tid2013, kadid10k, livec, koniq10k, livefb, spaq, biq2021)
}


def write_tree(name: str, root: Path, contents: int = 5) -> list[Row]:
    """Writes the tree of a dataset, and gives what a loader must find: names and labels."""
    root.mkdir(parents=True, exist_ok=True)
    return WRITERS[name](root, contents)
