"""Images in both kinds of archives: which paths point into one, and what is read there."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qfm_iqm.errors import ImageError
from qfm_iqm.image.archive import read_archive, split_member
from qfm_iqm.image.load import read_content


def tar_of(path, contents):
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def parquet_of(path, contents):
    rows = [{"bytes": content, "path": name} for name, content in contents.items()]
    pq.write_table(pa.table({"image": rows}), path)


WRITERS = {"tar": tar_of, "parquet": parquet_of, "PARQUET": parquet_of}


@pytest.mark.parametrize("ending", WRITERS)
def test_an_archive_that_has_changed_is_read_anew(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    for content in (b"first", b"longer than the first" * 999):
        WRITERS[ending](path, {"before.jpg": content, "a.jpg": content})
        assert read_content(f"{path}/a.jpg") == content
        assert list(read_archive(str(path)).members) == ["before.jpg", "a.jpg"]


@pytest.mark.parametrize("ending", WRITERS)
def test_a_member_that_is_not_there(tmp_path, ending):
    WRITERS[ending](tmp_path / f"a.{ending}", {"a.jpg": b"a"})
    with pytest.raises(ImageError, match="there is no such file in the archive"):
        read_content(f"{tmp_path}/a.{ending}/gone.jpg")


@pytest.mark.parametrize(("ending", "kind"), [("tar", "tar archive"), ("parquet", "Parquet file")])
def test_an_archive_is_no_image(tmp_path, ending, kind):
    WRITERS[ending](tmp_path / f"a.{ending}", {"a.jpg": b"a"})
    with pytest.raises(ImageError, match=f"it is a {kind}; qfm score takes the images in it"):
        read_content(f"{tmp_path}/a.{ending}")


@pytest.mark.parametrize("ending", WRITERS)
def test_what_leads_into_no_archive(tmp_path, ending):
    (tmp_path / f"folder.{ending}").mkdir()
    (tmp_path / f"folder.{ending}" / "a.jpg").write_bytes(b"a")
    assert split_member(f"{tmp_path}/folder.{ending}/a.jpg") is None
    assert split_member(f"{tmp_path}/gone.{ending}/a.jpg") is None
    assert split_member(f"a.{ending}") is None
    assert read_content(f"{tmp_path}/folder.{ending}/a.jpg") == b"a"


@pytest.mark.parametrize("outer", ["tar", "parquet"])
@pytest.mark.parametrize("inner", ["tar", "parquet"])
def test_an_archive_in_an_archive_is_a_file_like_any_other(tmp_path, outer, inner):
    WRITERS[inner](tmp_path / f"inner.{inner}", {"a.jpg": b"a"})
    content = (tmp_path / f"inner.{inner}").read_bytes()
    WRITERS[outer](tmp_path / f"outer.{outer}", {f"inner.{inner}": content})
    path = f"{tmp_path}/outer.{outer}/inner.{inner}"
    assert read_content(path) == content
    with pytest.raises(ImageError, match="there is no such file in the archive"):
        read_content(f"{path}/a.jpg")
