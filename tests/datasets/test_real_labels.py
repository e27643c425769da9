"""Every loader and its facts against the real label files, if available."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.reading import read_table

SHARED = Path(__file__).parents[2].parent / "shared"
LABELS = SHARED / "labels"
META = LABELS / "pyiqa_meta_info"
real = pytest.mark.skipif(not LABELS.is_dir(), reason="the real label files are not at hand")

PYIQA = {
    "live": "LIVEIQA.csv",
    "csiq": "CSIQ.csv",
    "tid2013": "TID2013.csv",
    "kadid10k": "KADID10k.csv",
    "livec": "LIVEChallenge.csv",
    "koniq10k": "KonIQ10k.csv",
    "spaq": "SPAQ.csv",
}


def pyiqa_rows(name):
    with (META / PYIQA[name]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["name"] = row.get("dist_name") or row.get("img_name") or row.get("Image name")
        row["label"] = row.get("mos") or row.get("dmos") or row.get("MOS")
    return rows


@real
def test_koniqs_real_labels_and_official_split():
    table = DATASETS["koniq10k"].load(LABELS)
    assert len(table) == 10073
    parts = table.column("split")
    assert [parts.count(p) for p in ("train", "validation", "test")] == [7058, 1000, 2015]
    codes = {"0": "train", "1": "validation", "2": "test"}
    expected = [
        (f"1024x768/{row['name']}", float(row["label"]), row["std"], codes[row["split"]])
        for row in pyiqa_rows("koniq10k")
    ]
    found = zip(table.names, table.mos.tolist(), table.column("std"), parts, strict=True)
    assert list(found) == expected


@real
def test_tids_real_labels(tmp_path):
    shutil.copy(LABELS / "tid2013_mos_with_names.txt", tmp_path / "mos_with_names.txt")
    table = DATASETS["tid2013"].load(tmp_path)
    assert len(table) == 3000
    expected = [
        (f"distorted_images/{row['name']}", float(row["label"]), row["ref_name"][:3].lower())
        for row in pyiqa_rows("tid2013")
    ]
    assert list(zip(table.names, table.mos.tolist(), table.contents, strict=True)) == expected


@real
def test_flives_real_labels(tmp_path):
    shutil.copy(LABELS / "flive_labels_image.csv", tmp_path / "labels_image.csv")
    table = DATASETS["livefb"].load(tmp_path)
    assert len(table) == DATASETS["livefb"].images
    assert set(table.column("subset")) == {"blur_dataset", "voc_emotic_ava", "EE371R"}
    assert table.mos[0] == 75.44372347614072
    assert (table.mos.min(), round(table.mos.max(), 4)) == (0, DATASETS["livefb"].highest)


@real
@pytest.mark.parametrize("name", sorted(PYIQA.keys() - {"live"}))
def test_the_facts_are_those_of_the_real_labels(name):
    dataset = DATASETS[name]
    rows = [row for row in pyiqa_rows(name) if row["name"] not in dataset.unlabeled]
    labels = np.array([float(row["label"]) for row in rows])
    assert len(rows) == dataset.images
    assert labels.mean() == pytest.approx(dataset.mean, abs=6e-5)
    assert labels.std() == pytest.approx(dataset.std, abs=6e-5)
    assert labels.min() == pytest.approx(dataset.lowest, abs=6e-5)
    assert labels.max() == pytest.approx(dataset.highest, abs=6e-5)
    assert dataset.minimum <= labels.min() < labels.max() <= dataset.maximum
    if dataset.contents < dataset.images:
        assert len({row["ref_name"].upper() for row in rows}) == dataset.contents


@real
@pytest.mark.parametrize("name", PYIQA)
def test_pyiqas_tables_are_read_as_they_are(name):
    rows = pyiqa_rows(name)
    table = read_table(META / PYIQA[name], label="dmos" if "dmos" in rows[0] else "mos")
    assert table.names == tuple(row["name"] for row in rows)
    assert table.mos.tolist() == [float(row["label"]) for row in rows]


@real
def test_official_names_of_real_files_are_those_of_pyiqa(tmp_path):
    """Label files rebuilt from pyiqa's lists in the official form give these lists back."""
    rows = pyiqa_rows("csiq")
    lines = [f"{row['name']} {row['label']}\n" for row in rows]
    (tmp_path / "csiq_label.txt").write_text("".join(lines))
    table = DATASETS["csiq"].load(tmp_path)
    assert [name.rpartition("/")[2] for name in table.names] == [row["name"] for row in rows]
    assert [f"{c}.png" for c in table.contents] == [row["ref_name"].lower() for row in rows]
    kadid = [
        f"{row['name']},{row['ref_name']},{row['label']},{row['std']}\n"
        for row in pyiqa_rows("kadid10k")
    ]
    (tmp_path / "dmos.csv").write_text("dist_img,ref_img,dmos,var\n" + "".join(kadid))
    table = DATASETS["kadid10k"].load(tmp_path)
    assert len(set(table.column("distortion"))) == 25
    assert table.column("std") == tuple(row["std"] for row in pyiqa_rows("kadid10k"))
