"""Near-duplicates: real encoded files, and distances against a loop over bits."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance

from qfm_iqm.datasets import leakage
from qfm_iqm.datasets.leakage import (
    MAX_DISTANCE,
    HashedImages,
    Leak,
    find_leaks,
    near_duplicates,
    perceptual_hashes,
    refuse_leaks,
)
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.errors import TableError
from qfm_iqm.training.recipe_schema import DistillationConfig

# Third-party data lies beside the repository where there is any; none of it is copied here.
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
        grey = image.convert("RGB").convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    n = np.arange(32)
    basis = np.cos(np.pi * np.outer(np.arange(8), 2 * n + 1) / 64)
    low = basis @ np.asarray(grey, dtype=float) @ basis.T
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
    exif[274] = 6  # stored on its side
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    see_through = image.convert("RGBA")
    see_through.putalpha(255)
    see_through.save(tmp_path / "alpha.png")
    hashes = perceptual_hashes(sorted(tmp_path.iterdir())).hashes_N8
    assert np.array_equal(hashes, hashes[:1].repeat(3, axis=0))


def test_any_number_of_readers_and_either_kind_of_path(files):
    originals, _ = files
    reference = perceptual_hashes(originals, readers=1)
    for readers in (2, 7, None):
        found = perceptual_hashes([str(path) for path in originals], readers=readers)
        assert found.paths == reference.paths == tuple(originals)
        assert np.array_equal(found.hashes_N8, reference.hashes_N8)


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
    assert len(found.errors) == 4
    for path, error in zip(("text.jpg", "missing.png", "cut.png", ""), found.errors, strict=True):
        assert error.startswith("cannot read ")
        assert path in error


def test_nothing_asked_and_nothing_readable(tmp_path):
    for asked in ([], [tmp_path / "missing.png"]):
        found = perceptual_hashes(asked)
        assert found.hashes_N8.shape == (0, 8)
        assert found.hashes_N8.dtype == np.uint8
        assert (found.paths, len(found.errors)) == ((), len(asked))
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
    # Few values of bytes, so that small distances occur.
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
    images = HashedImages(tuple(Path(f"{n}.png") for n in (5, 6, 7)), pool)
    found = find_leaks(images, HashedImages((Path("held.png"),), held_out))
    assert [leak.distance for leak in found] == [5, 6]
    assert DistillationConfig().max_distance == MAX_DISTANCE == 6


@pytest.mark.parametrize("limit", [-1, 65])
def test_impossible_distances(limit):
    hashes = np.zeros((1, 8), np.uint8)
    with pytest.raises(ValueError, match=f"0 to 64 of them, not {limit}"):
        near_duplicates(hashes, hashes, max_distance=limit)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 64), bool), np.zeros((2, 64), np.uint8), np.zeros(8, np.uint8)]
)
def test_arrays_that_are_no_hashes(wrong):
    hashes = np.zeros((1, 8), np.uint8)
    for pair in ((wrong, hashes), (hashes, wrong)):
        with pytest.raises(ValueError, match=r"hashes are uint8 \(N, 8\)"):
            near_duplicates(*pair)


# Report


def hashed(**hashes):
    return HashedImages(
        tuple(Path(f"{name}.png") for name in hashes),
        np.array([[value, 0, 0, 0, 0, 0, 0, 0] for value in hashes.values()], np.uint8),
    )


def test_leaks_are_rows_of_a_table():
    pool, held_out = hashed(a=0, b=255, c=0b111), hashed(x=1, y=0b1000_0000)
    leaks = find_leaks(pool, held_out, max_distance=2)
    assert leaks == [
        Leak("a.png", "x.png", 1),
        Leak("a.png", "y.png", 1),
        Leak("c.png", "x.png", 2),
    ]
    assert find_leaks(pool, held_out, max_distance=0) == []
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Leak._fields, *leaks[:1]])
    assert text.getvalue() == "image,held_out,distance\na.png,x.png,1\n"


def test_leaks_are_refused_with_their_number_and_the_nearest_named():
    refuse_leaks([])
    leaks = [Leak(f"p{i}.png", f"t{i % 2}.png", 6 - i) for i in range(5)]
    with pytest.raises(TableError) as refused:
        refuse_leaks([*leaks, Leak("p0.png", "t1.png", 6)])
    assert str(refused.value) == (
        "5 images to learn from are near-duplicates of 2 held-out ones; pairs: 6, the nearest "
        "p4.png ~ t0.png (2 bits), p3.png ~ t1.png (3 bits), p2.png ~ t0.png (4 bits), ...; "
        "take them out of the pool."
    )
    with pytest.raises(
        TableError, match=r"pairs: 1, the nearest p0\.png ~ t0\.png \(6 bits\); take"
    ):
        refuse_leaks(leaks[:1])


@pytest.mark.skipif(not BIQ2021.is_dir(), reason="BIQ2021 does not lie beside the repository")
def test_photos_of_one_content_are_found_among_real_ones():
    table = read_table(BIQ2021 / "labelled.csv")
    members = {}
    for name, content in zip(table.names, table.contents, strict=True):
        members.setdefault(content, []).append(name)
    several = [names for names in members.values() if len(names) > 1][:50]
    # Every 40th photo besides: scenes that lie apart.
    single = [names[0] for names in members.values() if len(names) == 1][::40][:100]
    names = [name for group in several for name in group] + single
    hashes = perceptual_hashes([BIQ2021 / name for name in names])
    assert hashes.errors == ()
    found = {
        (names[i], names[j])
        for i, j, _ in near_duplicates(hashes.hashes_N8, hashes.hashes_N8)
        if i < j
    }
    same = {(group[i], group[j]) for group in several for j in range(len(group)) for i in range(j)}
    assert len(names) >= 200
    assert len(found & same) >= 0.95 * len(same)
    assert len(found - same) <= 0.05 * len(names)  # some ids are apart that show one scene
