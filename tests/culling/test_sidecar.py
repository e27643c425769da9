"""Sidecars, read back by exiftool: an independent reader of XMP."""

import json
import os
import shutil
import subprocess

import pytest
from PIL import Image

from qfm_iqm.culling.row import CullRow
from qfm_iqm.culling.sidecar import sidecars_of, write_sidecar, write_sidecars
from qfm_iqm.errors import QFMError

DARKTABLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:a="http://ns.adobe.com/xap/1.0/"
    a:Rating="RATING"
   darktable:xmp_version="5" darktable:history_end="2">
   <!-- kept > as it is -->
   <darktable:history>
    <rdf:Seq><rdf:li darktable:operation="exposure" darktable:params="x&gt;y"/></rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
ELEMENTS = b"""\xef\xbb\xbf<x:xmpmeta xmlns:x='adobe:ns:meta/'>
 <rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
  <rdf:Description rdf:about='' xmlns:dc='http://purl.org/dc/elements/1.1/'>
   <dc:subject><rdf:Bag><rdf:li>M\xc3\xbcnchen</rdf:li></rdf:Bag></dc:subject>
  </rdf:Description>
  <rdf:Description rdf:about='' xmlns:xmp='http://ns.adobe.com/xap/1.0/'>
   <xmp:Rating>RATING</xmp:Rating>
   <xmp:Label>Blue</xmp:Label>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


@pytest.fixture(scope="module")
def exiftool():
    """`exiftool(file)`: what it reads of a file's XMP."""
    if not shutil.which("exiftool"):
        if os.environ.get("QFM_EXIFTOOL") == "required":
            pytest.fail("there is no exiftool: apt-get install libimage-exiftool-perl")
        pytest.skip("there is no exiftool")

    def told(path):
        answer = subprocess.run(
            ["exiftool", "-json", "-warning", "-XMP:all", path], capture_output=True, check=True
        )
        (found,) = json.loads(answer.stdout)
        assert "Warning" not in found
        del found["SourceFile"]
        return found

    return told


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (20, 20), "red").save(path)
    return path


def written(photo, content=None, *, rating=4, keep=True, **options):
    sidecar = photo.with_name("a.jpg.xmp")
    if content is not None:
        sidecar.write_bytes(content)
    before = photo.read_bytes()
    done = write_sidecar(sidecar, photo, rating, keep=keep, **options)
    assert photo.read_bytes() == before
    return sidecar, done


def test_a_new_sidecar(exiftool, photo):
    sidecar, done = written(photo)
    assert done
    assert exiftool(sidecar) == {"Rating": 4, "Label": "Green"}
    sidecar, done = written(photo, rating=2, keep=False)
    assert not done
    assert exiftool(sidecar) == {"Rating": 4, "Label": "Green"}
    sidecar, done = written(photo, rating=2, keep=False, overwrite=True)
    assert done
    assert exiftool(sidecar) == {"Rating": 2, "Label": ""}


@pytest.mark.parametrize("content", [DARKTABLE, ELEMENTS])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_rating_that_is_there_stays_unless_told(exiftool, photo, content, overwrite):
    rated = content.replace(b"RATING", b"1")
    sidecar, done = written(photo, rated, keep=False, overwrite=overwrite)
    assert done == overwrite
    assert sidecar.read_bytes() == (content.replace(b"RATING", b"4") if overwrite else rated)
    assert exiftool(sidecar)["Rating"] == (4 if overwrite else 1)


@pytest.mark.parametrize("content", [DARKTABLE, ELEMENTS])
def test_all_else_in_a_sidecar_stays_to_the_byte(exiftool, photo, content):
    sidecar, done = written(photo, content.replace(b"RATING", b"0"))  # 0 means no rating
    assert done
    found = exiftool(sidecar)
    assert found["Rating"] == 4
    assert found["Label"] == ("Blue" if content is ELEMENTS else "Green")
    expected = content.replace(b"RATING", b"4")
    assert sidecar.read_bytes().replace(b' a:Label="Green"', b"") == expected


def test_a_sidecar_without_the_namespace_gets_it(exiftool, photo):
    content = ELEMENTS[: ELEMENTS.index(b"  <rdf:Description rdf:about='' xmlns:xmp")]
    content += b" </rdf:RDF>\n</x:xmpmeta>\n"
    sidecar, _ = written(photo, content)
    assert exiftool(sidecar) == {"Rating": 4, "Label": "Green", "Subject": "München"}


@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_a_rating_inside_the_photo_stays(photo, kind):
    image = Image.open(photo)
    exif = Image.Exif()
    if kind == "exif":
        exif[0x4746] = 3
    image.save(photo, exif=exif, xmp=b"" if kind == "exif" else ELEMENTS.replace(b"RATING", b"3"))
    _, done = written(photo, keep=False)
    assert not done
    assert not photo.with_name("a.jpg.xmp").exists()
    assert written(photo, keep=False, overwrite=True)[1]


@pytest.mark.parametrize(
    "content", [b"no xml", b"<a/>", b"", DARKTABLE[:-20], DARKTABLE.decode().encode("utf-16")]
)
def test_what_is_no_xmp_is_not_changed(photo, content):
    with pytest.raises(QFMError, match="not XMP"):
        written(photo, content)
    assert photo.with_name("a.jpg.xmp").read_bytes() == content


def test_names(photo):
    folder = photo.parent
    assert sidecars_of(str(photo), "full") == [folder / "a.jpg.xmp"]
    assert sidecars_of(str(photo), "stem") == [folder / "a.xmp"]
    assert sidecars_of(str(photo), "both") == [folder / "a.jpg.xmp", folder / "a.xmp"]


def test_photos_that_would_share_a_sidecar_get_none(photo):
    other = photo.with_suffix(".png")
    shutil.copy(photo, other)
    rows = [
        CullRow(str(path), moment=1, photos=2, rank=rank, keep=rank == 1, rating=3)
        for rank, path in enumerate((photo, other), 1)
    ]
    rows.append(CullRow("https://example.org/b.jpg", rating=3))
    outcome = write_sidecars(rows, "stem")
    assert (outcome.written, outcome.kept, len(outcome.problems)) == (0, 0, 3)
    assert not list(photo.parent.glob("*.xmp"))
    outcome = write_sidecars(rows[:2], "full")
    assert (outcome.written, outcome.problems) == (2, [])


def described(inside):
    """A sidecar with these bytes in its description."""
    return ELEMENTS.replace(
        b"<xmp:Rating>RATING</xmp:Rating>\n   <xmp:Label>Blue</xmp:Label>", inside
    )


def test_an_empty_element_is_filled(exiftool, photo):
    sidecar = photo.with_name("photo.jpg.xmp")
    sidecar.write_bytes(described(b"<xmp:Rating/>\n   <xmp:Label />"))
    assert write_sidecar(sidecar, photo, 4, keep=True)
    found = exiftool(sidecar)
    assert (found["Rating"], found["Label"]) == (4, "Green")
    assert b"<xmp:Rating>4</xmp:Rating>" in sidecar.read_bytes()
    assert not write_sidecar(sidecar, photo, 5, keep=True)


def test_a_rating_of_the_photo_it_was_made_from_is_not_its_own(exiftool, photo):
    source = (
        b"<xmpMM:DerivedFrom xmlns:xmpMM='http://ns.adobe.com/xap/1.0/mm/'>"
        b"<rdf:Description xmp:Rating='4'><xmp:Label>Red</xmp:Label></rdf:Description>"
        b"</xmpMM:DerivedFrom>"
    )
    sidecar = photo.with_name("photo.jpg.xmp")
    sidecar.write_bytes(described(source))
    assert write_sidecar(sidecar, photo, 3, keep=True)
    assert exiftool(sidecar)["Rating"] == 3
    assert source in sidecar.read_bytes()


def test_entities_are_refused_in_a_sentence(photo):
    entity = b"<!DOCTYPE x [<!ENTITY r \"<a xmlns='u'/>\">]>"
    sidecar = photo.with_name("photo.jpg.xmp")
    content = described(b"&r;").removeprefix(b"\xef\xbb\xbf")
    sidecar.write_bytes(entity + content)
    with pytest.raises(QFMError, match="defines XML entities, which are not supported"):
        write_sidecar(sidecar, photo, 3, keep=True)
    assert sidecar.read_bytes() == entity + content


def test_a_rating_inside_the_photo_stays_beside_a_sidecar_without_one(photo):
    exif = Image.Exif()
    exif[0x4746] = 3
    with Image.open(photo) as image:
        image.save(photo, exif=exif)
    sidecar = photo.with_name("photo.jpg.xmp")
    for _ in range(2):
        assert not write_sidecar(sidecar, photo, 5, keep=True)
        assert b"Rating" not in sidecar.read_bytes()
    assert write_sidecar(sidecar, photo, 5, keep=True, overwrite=True)
