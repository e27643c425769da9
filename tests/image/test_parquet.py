"""Images in Parquet files: those written by `datasets`, and plain tables of bytes."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qfm_iqm.errors import ImageError
from qfm_iqm.image.archive import read_archive
from qfm_iqm.image.load import read_content

datasets = pytest.importorskip("datasets")


def hugging_face(path, rows, group=5, **features):
    """A file written by `datasets`, with images and other columns."""
    kinds = datasets.Features({"image": datasets.Image(), **features})
    columns = {"image": rows} | {name: [None] * len(rows) for name in features}
    datasets.Dataset.from_dict(columns, features=kinds).to_parquet(path, batch_size=group)


@pytest.fixture(scope="module")
def photos(photo_paths):
    return {Path(path).name: Path(path).read_bytes() for path in photo_paths}


def rows_of(photos):
    return [{"bytes": content, "path": name} for name, content in photos.items()]


def members(path):
    return list(read_archive(str(path)).members)


def contents(path):
    return [read_content(f"{path}/{name}") for name in members(path)]


def test_rows_of_datasets_hold_the_bytes_of_their_files(photos, tmp_path):
    path = tmp_path / "train.parquet"
    hugging_face(path, rows_of(photos), label=datasets.Value("int64"))
    assert pq.read_metadata(path).num_row_groups == 3
    assert members(path) == list(photos)
    assert contents(path) == list(photos.values())


def test_rows_are_called_by_number_where_paths_tell_too_little(tmp_path):
    names = ["a.jpg", "a.jpg", None, "", "1", "b/c.jpg", ".d", "/e.jpg"]
    rows = [{"bytes": bytes([n]), "path": name} for n, name in enumerate(names)]
    hugging_face(tmp_path / "a.parquet", rows)
    assert members(tmp_path / "a.parquet") == [
        "0", "1", "2", "3", "4", "b/c.jpg", ".d", "/e.jpg"
    ]  # fmt: skip
    assert contents(tmp_path / "a.parquet") == [bytes([n]) for n in range(8)]


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.large_binary(), "label": pa.int8()})],
)
def test_other_columns_of_bytes_are_images_too(photos, tmp_path, kind):
    images = list(photos.values())
    if pa.types.is_struct(kind):
        images = [{"bytes": content, "label": 1} for content in images]
    table = pa.table({"name": list(photos), "photo": pa.array(images, kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=5)
    assert members(tmp_path / "a.parquet") == [str(n) for n in range(12)]
    assert contents(tmp_path / "a.parquet") == list(photos.values())


def column_of(*names, kind=None):
    return {name: pa.array([b"x"], kind or pa.binary()) for name in names}


def test_of_several_columns_it_is_the_one_called_image_or_none(tmp_path):
    path = tmp_path / "a.parquet"
    image = pa.array([{"bytes": b"y", "path": "a.jpg"}])
    for columns, found in (
        (column_of("image", "mask"), [b"x"]),
        (column_of("mask") | {"photo": image}, [b"y"]),
        ({"mask": image, "image": image}, [b"y"]),
    ):
        pq.write_table(pa.table(columns), path)
        assert contents(path) == found
    pq.write_table(pa.table({"left": image, "right": image}), path)
    with pytest.raises(ImageError, match=r"several of its columns hold images \(left, right\)"):
        read_content(str(path))
    features = {"left": {"_type": "Audio"}, "right": {"_type": "Image"}}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"left": image, "right": image}).replace_schema_metadata(told)
    pq.write_table(table, path)
    assert contents(path) == [b"y"]


@pytest.mark.parametrize(
    "columns", [{"path": ["a.jpg"]}, column_of("one", "two"), {"sizes": [[1, 2]]}]
)
def test_a_table_of_other_things_says_so(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read_archive(str(tmp_path / "a.parquet")).is_table
    with pytest.raises(ImageError, match="none of its columns holds images"):
        read_content(str(tmp_path / "a.parquet"))


def test_a_row_without_bytes_reads_nothing_of_this_machine(photo_paths, tmp_path):
    rows = [photo_paths[0], None, {"bytes": b"x", "path": None}]
    hugging_face(tmp_path / "a.parquet", rows)
    first, second, third = members(tmp_path / "a.parquet")
    assert first == photo_paths[0]
    for name in (first, second):
        with pytest.raises(ImageError, match="its row holds no image bytes"):
            read_content(f"{tmp_path}/a.parquet/{name}")
    assert read_content(f"{tmp_path}/a.parquet/{third}") == b"x"


def test_threads_and_any_order_give_the_same(tmp_path):
    draw = np.random.default_rng(0)
    rows = [{"bytes": draw.bytes(900), "path": f"{n}.jpg"} for n in range(300)]
    hugging_face(tmp_path / "a.parquet", rows)
    order = list(range(300)) * 2
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: read_content(f"{tmp_path}/a.parquet/{n}.jpg"), order))
    assert found == [rows[n]["bytes"] for n in order]


def test_rows_in_order_are_read_once_and_few_at_a_time(tmp_path):
    draw = np.random.default_rng(0)
    rows = [{"bytes": draw.bytes(400_000), "path": None} for _ in range(100)]
    hugging_face(tmp_path / "a.parquet", rows, group=100)
    process = psutil.Process()
    names = members(tmp_path / "a.parquet")
    before = process.memory_info().rss
    read_before = process.io_counters().read_chars
    most = 0
    for name, row in zip(names, rows, strict=True):
        assert read_content(f"{tmp_path}/a.parquet/{name}") == row["bytes"]
        most = max(most, process.memory_info().rss - before)
    assert most < 25_000_000
    assert process.io_counters().read_chars - read_before < 1.2 * 40_000_000


@pytest.mark.parametrize("place", ["end", "beginning", "footer", "page"])
def test_damage_is_an_error(photos, tmp_path, place):
    path = tmp_path / "a.parquet"
    hugging_face(path, rows_of(photos))
    content = bytearray(path.read_bytes())
    if place == "end":
        del content[len(content) // 2 :]
    elif place == "beginning":
        content = bytearray(b"no Parquet file")
    elif place == "footer":
        content[-60:-20] = bytes(40)
    else:
        start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
        content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"its data are damaged|takes the images in it"):
        read_content(str(path))
    if place != "page":
        assert members(path) == []
        return
    found = []
    for name in members(path):
        try:
            read_content(f"{path}/{name}")
            found.append("")
        except ImageError as error:
            found.append(str(error).partition(": ")[2])
    assert found == [""] * 5 + ["its data are damaged"] * 5 + [""] * 2
