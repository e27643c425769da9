"""Images in tar archives: a member is read like its original file."""

import io
import os
import random
import shutil
import subprocess
import tarfile

import pytest

from qfm_iqm.errors import ImageError
from qfm_iqm.image.archive import read_archive
from qfm_iqm.image.decode import open_file, read_image
from qfm_iqm.image.load import read_content


def add(tar, name, content, **facts):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for fact, value in facts.items():
        setattr(member, fact, value)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shard(photo_folder, tmp_path):
    """Photos beside other files, as in WebDataset."""
    path = tmp_path / "shard-000.tar"
    with tarfile.open(path, "w") as tar:
        for number, photo in enumerate(sorted(photo_folder.iterdir())):
            add(tar, f"{number:06d}{photo.suffix}", photo.read_bytes())
            add(tar, f"{number:06d}.json", b'{"caption": "a photo"}')
    return path


def test_a_member_holds_the_bytes_of_its_file(shard, photo_folder):
    photos = sorted(photo_folder.iterdir())
    for number, photo in enumerate(photos):
        assert read_content(f"{shard}/{number:06d}{photo.suffix}") == photo.read_bytes()
    assert read_image(f"{shard}/000000.jpg").equal(read_image(photos[0]))


def test_a_member_reads_and_seeks_as_the_file_would(shard, photo_folder):
    draw = random.Random(3)
    with (
        open_file(f"{shard}/000005.png") as member,
        (sorted(photo_folder.iterdir())[5]).open("rb") as file,
    ):
        size = os.fstat(file.fileno()).st_size
        for _ in range(300):
            place = draw.randrange(-size, size + 50)
            whence = draw.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
            answers = []
            for one in (member, file):
                try:
                    answers.append((one.seek(place, whence), one.read(draw.getrandbits(0) or 70)))
                except (OSError, ValueError):
                    answers.append("refused")
                    one.seek(0)
            assert answers[0] == answers[1]


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7"])
def test_archives_of_gnu_tar(photo_folder, tmp_path, form):
    if shutil.which("tar") is None:
        pytest.skip("tar is not installed")
    long = "x" * (60 if form == "v7" else 140)
    if form == "ustar":
        long = "/".join(["y" * 60] * 2)
    (tmp_path / "in" / long).mkdir(parents=True)
    shutil.copy(photo_folder / "photo_00.jpg", tmp_path / "in" / long / "é.jpg")
    (tmp_path / "in" / "link.jpg").symlink_to("gone.jpg")
    subprocess.run(
        ["tar", f"--format={form}", "-cf", "out.tar", "-C", "in", "."], cwd=tmp_path, check=True
    )
    found = read_archive(str(tmp_path / "out.tar"))
    assert found.damage == ""
    assert list(found.members) == [f"./{long}/é.jpg"]
    content = read_content(f"{tmp_path / 'out.tar'}/./{long}/é.jpg")
    assert content == (photo_folder / "photo_00.jpg").read_bytes()


def test_of_two_members_of_one_name_the_last_counts(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "a.jpg", b"first")
        add(tar, "a.jpg", b"second")
    assert read_content(f"{tmp_path}/a.tar/a.jpg") == b"second"


@pytest.mark.parametrize(
    "cut", ["1st header", "1st content", "4th header", "last content", "last block"]
)
def test_an_archive_that_breaks_off_says_so_and_gives_what_is_there(shard, cut):
    content = shard.read_bytes()
    whole = read_archive(str(shard)).members
    starts = [start for start, _ in whole.values()]
    place, left = {
        "1st header": (300, 0),
        "1st content": (starts[0] + 10, 0),
        "4th header": (starts[3] - 100, 3),
        "last content": (starts[-1] + 10, 23),
        "last block": (len(content) - 512, 24),  # zeros; the first such block is enough
    }[cut]
    broken = shard.with_name("broken.tar")
    broken.write_bytes(content[:place])
    found = read_archive(str(broken))
    assert list(found.members) == list(whole)[:left]
    if cut == "last block":
        assert found.damage == ""
        return
    if cut == "1st header":
        assert found.damage == "it is not a tar archive, or a compressed one"
        return
    assert found.damage == f"the archive is truncated or damaged after {left} files"
    with pytest.raises(ImageError, match="is truncated or damaged"):
        read_content(f"{broken}/000011.json")
    with pytest.raises(ImageError, match="is truncated or damaged"):
        read_content(str(broken))


@pytest.mark.parametrize("content", [b"", b"no archive", os.urandom(4096), b"\x1f\x8b" * 600])
def test_what_is_no_archive_says_so(tmp_path, content):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not a tar archive, or a compressed one"):
        read_content(str(path))
    with pytest.raises(ImageError, match="not a tar archive, or a compressed one"):
        read_content(f"{path}/a.jpg")


def test_a_compressed_archive_is_refused(shard, tmp_path):
    with tarfile.open(tmp_path / "z.tar", "w:gz") as tar:
        tar.add(shard, "inner.jpg")
    with pytest.raises(ImageError, match="a compressed one"):
        read_content(f"{tmp_path}/z.tar/inner.jpg")
