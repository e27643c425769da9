"""Near-duplicates of real encoded files, and distances against a loop over bits."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance

from qfm_iqm.datasets import leakage
from qfm_iqm.datasets.leakage import (
    Leak,
    file_keys,
    fold_leaks,
    near_duplicates,
    perceptual_hashes,
    pool_leaks,
    read_leaks,
    refuse_leaks,
    split_leaks,
    write_leaks,
)
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import Split
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.image.perceptual_hash import MAX_DISTANCE

from ..trees import photo as flat_photo

# Third-party data, if any, is beside the repository; none of it is copied here.
BIQ2021 = Path(__file__).parents[2].parent / "shared" / "data" / "biq2021"

COPIES = ("jpeg_q30.jpg", "half.png", "brighter.png", "all.webp")


def photo(seed):
    """A scene of light, shapes and texture, 240 x 180."""
    draw = np.random.default_rng([seed, 5])
    layers = [
        np.asarray(
            Image.fromarray(draw.integers(0, 256, (cells, cells + 1, 3), dtype=np.uint8)).resize(
                (240, 180), Image.Resampling.BICUBIC
            ),
            dtype=float,
        )
        for cells in (3, 6, 20)
    ]
    mixed = 0.5 * layers[0] + 0.35 * layers[1] + 0.15 * layers[2]
    return Image.fromarray((0.8 * mixed).round().astype(np.uint8))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ten photos as PNG, and of each the copies of `COPIES`; (originals, copies) as paths."""
    root = tmp_path_factory.mktemp("leaks")
    originals, copies = [], []
    for seed in range(10):
        image = photo(seed)
        originals.append(root / f"{seed}.png")
        image.save(originals[-1])
        half = image.resize((120, 90), Image.Resampling.LANCZOS)
        brighter = ImageEnhance.Brightness(image).enhance(1.1)
        paths = [root / f"{seed}_{name}" for name in COPIES]
        image.save(paths[0], quality=30)
        half.save(paths[1])
        brighter.save(paths[2])
        ImageEnhance.Brightness(half).enhance(1.1).save(paths[3], quality=30)
        copies.append(paths)
    return originals, copies


# Hashes


def phash_by_hand(path):
    """Signs of the 8 x 8 lowest DCT-II frequencies about their median, with a cosine matrix."""
    with Image.open(path) as image:
        gray = image.convert("RGB").convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    n = np.arange(32)
    basis = np.cos(np.pi * np.outer(np.arange(8), 2 * n + 1) / 64)
    low = basis @ np.asarray(gray, dtype=float) @ basis.T
    return low, low > np.median(low)


def test_a_hash_is_the_signs_of_low_frequencies_about_their_median(files):
    originals, _ = files
    hashes = perceptual_hashes(originals).hashes_N8
    assert (hashes.shape, hashes.dtype) == ((10, 8), np.uint8)
    for path, bits in zip(originals, np.unpackbits(hashes, axis=1), strict=True):
        low, expected = phash_by_hand(path)
        decided = np.abs(low - np.median(low)) > 1e-6
        assert np.array_equal(bits.reshape(8, 8)[decided], expected[decided])


def test_copies_are_found_and_other_photos_are_not(files):
    originals, copies = files
    flat = [path for paths in copies for path in paths]
    a, b = perceptual_hashes(originals), perceptual_hashes(flat)
    found = {(i, j) for i, j, _ in near_duplicates(a.hashes_N8, b.hashes_N8)}
    assert found == {(i, 4 * i + k) for i in range(10) for k in range(4)}


def test_images_are_hashed_upright_as_the_reader_gives_them(tmp_path):
    image = photo(3)
    image.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[274] = 6  # stored rotated by 90 degrees
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    see_through = image.convert("RGBA")
    see_through.putalpha(255)
    see_through.save(tmp_path / "alpha.png")
    hashes = perceptual_hashes(sorted(tmp_path.iterdir())).hashes_N8
    assert np.array_equal(hashes, hashes[:1].repeat(3, axis=0))


def test_what_cannot_be_read_is_listed_and_stops_nothing(files, tmp_path):
    originals, _ = files
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(originals[2].read_bytes()[:600])
    asked = [
        originals[0],
        tmp_path / "text.jpg",
        tmp_path / "missing.png",
        originals[1],
        tmp_path / "cut.png",
        tmp_path,
    ]
    found = perceptual_hashes(asked)
    assert found.paths == (originals[0], originals[1])
    assert np.array_equal(found.hashes_N8, perceptual_hashes(originals[:2]).hashes_N8)


def test_nothing_asked_and_nothing_readable(tmp_path):
    for asked in ([], [tmp_path / "missing.png"]):
        found = perceptual_hashes(asked)
        assert found.hashes_N8.shape == (0, 8)
        assert found.hashes_N8.dtype == np.uint8
        assert found.paths == ()
        assert near_duplicates(found.hashes_N8, np.zeros((3, 8), np.uint8)) == []


def test_progress_sees_every_image_readable_or_not(files, tmp_path):
    totals, seen = [], []

    def progress(hashes, total):
        totals.append(total)
        for item in hashes:
            seen.append(item)
            yield item

    perceptual_hashes([*files[0], tmp_path / "missing.png"], progress=progress)
    assert totals == [11]
    assert len(seen) == 11


# Pairs


def distances_by_loop(a, b):
    table = []
    for row in a.tolist():
        table.append([])
        for other in b.tolist():
            bits = 0
            for x, y in zip(row, other, strict=True):
                for place in range(8):
                    bits += (x >> place) % 2 != (y >> place) % 2
            table[-1].append(bits)
    return table


def hash_arrays(most):
    # Few byte values, so that small distances occur.
    bytes_ = st.sampled_from([0, 1, 3, 128, 255])
    return hnp.arrays(np.uint8, st.tuples(st.integers(0, most), st.just(8)), elements=bytes_)


@given(
    a=hash_arrays(7), b=hash_arrays(7), limit=st.integers(0, 64), at_once=st.sampled_from([1, 5])
)
@settings(deadline=None, max_examples=60)
def test_pairs_are_those_of_a_loop_over_bits(a, b, limit, at_once):
    expected = [
        (i, j, bits)
        for i, row in enumerate(distances_by_loop(a, b))
        for j, bits in enumerate(row)
        if bits <= limit
    ]
    assert near_duplicates(a, b, max_distance=limit) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "_PAIRS_AT_ONCE", at_once)
        assert near_duplicates(a, b, max_distance=limit) == expected


def test_random_hashes_and_views():
    draw = np.random.default_rng(4)
    a, b = (draw.integers(0, 256, (n, 8), dtype=np.uint8) for n in (15, 20))
    for x, y in ((a, b), (a[::-2], b[::3]), (np.asfortranarray(a), b)):
        table = distances_by_loop(x, y)
        found = near_duplicates(x, y, max_distance=64)
        assert found == [(i, j, table[i][j]) for i in range(len(x)) for j in range(len(y))]


def test_ten_million_pairs_in_bounded_memory():
    draw = np.random.default_rng(7)
    a = draw.integers(0, 256, (1_000, 8), dtype=np.uint8)
    b = draw.integers(0, 256, (10_000, 8), dtype=np.uint8)
    b[9_876] = a[543]
    b[17] = a[999] ^ np.array([1, 0, 2, 0, 0, 4, 0, 129], np.uint8)  # five bits
    assert near_duplicates(a, b) == [(543, 9_876, 0), (999, 17, 5)]


def test_six_bits_are_a_leak_and_seven_are_none_unless_said_otherwise():
    draw = np.random.default_rng(8)
    held_out = draw.integers(0, 256, (1, 8), dtype=np.uint8)
    five, six, seven = (np.array([bits, 0, 0, 0, 0, 0, 0, 0], np.uint8) for bits in (31, 63, 127))
    pool = np.concatenate([held_out ^ bits for bits in (five, six, seven)])
    assert near_duplicates(pool, held_out) == [(0, 0, 5), (1, 0, 6)]
    assert MAX_DISTANCE == 6


# Leaks

NAMES = tuple(f"{n}.png" for n in range(9))
SPLIT = Split(NAMES[:5], NAMES[5:7], NAMES[7:], "as written")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        flat_photo(tmp_path / name, 100 + number, 0.1)
    return tmp_path


def leaks_of(folder, contents=NAMES):
    table = RatedTable(NAMES, np.arange(9), contents)
    return fold_leaks(table, {0: SPLIT}, folder)


def test_different_images_do_not_leak(folder):
    assert leaks_of(folder) == []
    refuse_leaks([], remedy="")


def test_each_kind_of_leak_is_found_under_its_surest_reason(folder):
    shutil.copy(folder / "0.png", folder / "7.png")  # train and test: the same bytes
    with Image.open(folder / "5.png") as image:  # validation and test: smaller, and darker
        image.resize((40, 40)).point(lambda v: int(0.9 * v)).save(folder / "8.png")
    contents = (*NAMES[:1], "same", *NAMES[2:6], "same", "0.png", NAMES[8])
    found = leaks_of(folder, contents)
    assert [leak[1:6] for leak in found] == [
        ("train", "1.png", "validation", "6.png", "content"),
        ("train", "0.png", "test", "7.png", "content"),
        ("validation", "5.png", "test", "8.png", "near-duplicate"),
    ]
    contents = (*NAMES[:1], "same", *NAMES[2:6], "same", *NAMES[7:])
    assert leaks_of(folder, contents)[1].reason == "file"


def test_near_duplicates_are_those_of_the_slow_loop(folder):
    for number in (6, 8):
        flat_photo(folder / NAMES[number], 100 + number - 5, 0.15)
    table = RatedTable(NAMES, np.arange(9))
    hashes = perceptual_hashes(table.paths(folder)).hashes_N8
    bits = np.unpackbits(hashes, axis=1).astype(int)
    home = {name: split for split in ("train", "validation", "test") for name in SPLIT.names(split)}
    expected = {
        (i, j)
        for i in range(9)
        for j in range(i + 1, 9)
        if home[NAMES[i]] != home[NAMES[j]] and np.abs(bits[i] - bits[j]).sum() <= MAX_DISTANCE
    }
    assert expected
    found = split_leaks(table, SPLIT, hashes_N8=hashes)
    assert {(NAMES.index(leak.image), NAMES.index(leak.other)) for leak in found} == expected
    assert near_duplicates(hashes, hashes, max_distance=0)


def test_leaks_are_refused_with_counts_and_listed(folder, tmp_path):
    found = leaks_of(folder, ("same",) * 6 + NAMES[6:8] + ("same",))
    with pytest.raises(
        TableError,
        match=r"^11 pairs .* splits \(11 by content\): 0\.png \(train\) ~ 5.png.*; mend it\.$",
    ):
        refuse_leaks(found, remedy="mend it")
    listed = tmp_path / "leaks.csv"
    write_leaks(found, listed)
    with pytest.raises(TableError, match=r"; all: .*leaks\.csv; mend it\."):
        refuse_leaks(found, listed=listed, remedy="mend it")
    two = [found[0], found[0]._replace(fold=3)]
    with pytest.raises(TableError, match=r"^2 pairs of images leak between splits of 2 folds"):
        refuse_leaks(two, remedy="mend it")
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    assert rows[0]["reason"] == "content"
    assert read_leaks(listed) == found
    listed.write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match=r"leaks\.csv has no column fold, split"):
        read_leaks(listed)


def test_without_images_contents_alone_are_compared():
    table = RatedTable(NAMES, np.arange(9), ("a",) * 9)
    assert len(split_leaks(table, SPLIT)) == 5 * 2 + 5 * 2 + 2 * 2
    with pytest.raises(TableError, match="must hold the same images"):
        split_leaks(table.select([0, 1]), SPLIT)


def test_an_image_that_cannot_be_read_ends_the_comparison(folder):
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1 images cannot be compared, .*3\.png"):
        leaks_of(folder)


def test_files_are_compared_without_decoding_them(tmp_path):
    for name, content in zip(NAMES, (b"aa", b"ab", b"aa", b"b", b"ccc"), strict=False):
        (tmp_path / name).write_bytes(content)
    keys = file_keys([tmp_path / name for name in NAMES[:5]])
    assert keys[0] == keys[2]
    assert len(set(keys)) == 4
    with pytest.raises(TableError, match=r"5\.png cannot be read"):
        file_keys([tmp_path / "5.png"])


def test_a_pool_leaks_by_content_name_or_sight(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("pool")
    names = ("8.png", "other.png", "seen.png", "new.png", "broken.png")
    for number, name in enumerate(names):
        flat_photo(place / name, 200 + number, 0.1)
    shutil.copy(folder / "6.png", place / "seen.png")
    (place / "broken.png").write_bytes(b"no image")
    table = RatedTable(NAMES, np.arange(9), tuple(f"c{n}" for n in range(9)))
    rows = SPLIT.indices(table)
    held = {split: table.select(rows[split]) for split in ("validation", "test")}
    contents = ("8.png", "c5", "seen.png", "new.png", "broken.png")
    found = pool_leaks(names, contents, [place / name for name in names], held, folder)
    told = [(Path(leak.image).name, leak.other_split, Path(leak.other).name, leak.reason)
            for leak in found]  # fmt: skip
    assert told == [
        ("8.png", "test", "8.png", "content"),
        ("other.png", "validation", "5.png", "content"),
        ("seen.png", "validation", "6.png", "near-duplicate"),
    ]
    (folder / "7.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1 images cannot be compared, .*7\.png"):
        pool_leaks(names, contents, [place / name for name in names], held, folder)


def test_any_name_survives_the_list_of_leaks(tmp_path):
    leak = Leak(0, "unlabeled", '=\udcff,"a\n.png', "test", "'-b.png", "content", 0)
    write_leaks([leak], tmp_path / "leaks.csv")
    assert read_leaks(tmp_path / "leaks.csv") == [leak]


@pytest.mark.skipif(not BIQ2021.is_dir(), reason="BIQ2021 does not lie beside the repository")
def test_photos_of_one_content_are_found_among_real_ones():
    table = read_table(BIQ2021 / "labelled.csv")
    members = {}
    for name, content in zip(table.names, table.contents, strict=True):
        members.setdefault(content, []).append(name)
    several = [names for names in members.values() if len(names) > 1][:50]
    # Also every 40th other photo: scenes that differ.
    single = [names[0] for names in members.values() if len(names) == 1][::40][:100]
    names = [name for group in several for name in group] + single
    hashes = perceptual_hashes([BIQ2021 / name for name in names])
    assert len(hashes.paths) == len(names)
    found = {
        (names[i], names[j])
        for i, j, _ in near_duplicates(hashes.hashes_N8, hashes.hashes_N8)
        if i < j
    }
    same = {(group[i], group[j]) for group in several for j in range(len(group)) for i in range(j)}
    assert len(names) >= 200
    assert len(found & same) >= 0.95 * len(same)
    assert len(found - same) <= 0.05 * len(names)  # some different ids show one scene
