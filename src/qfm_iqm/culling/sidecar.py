"""XMP sidecars: a rating and a label beside a photo, for darktable, digiKam and Lightroom.

Design choices:
* The photo is never written to. A rating that is there, in the sidecar or in the photo itself,
  stays unless one asks otherwise; so does a label. A rating of 0 is none: so XMP defines it.
* A sidecar that is there keeps every byte but those of the rating and the label: edits, keywords
  and comments of other programs stay as they wrote them.
* Two names are in use: `photo.jpg.xmp` (darktable, digiKam) and `photo.xmp` (Lightroom, which reads
  it beside raw files alone; digiKam where it is told to).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image

from qfm_iqm.culling.row import CullRow
from qfm_iqm.culling.xmp import EMPTY, Packet
from qfm_iqm.errors import QFMError
from qfm_iqm.files import write_whole
from qfm_iqm.image.fetch import is_url

Naming = Literal["full", "stem", "both"]

KEEPER_LABEL = "Green"  # a name of a color is what the three programs read as one


@dataclass
class Outcome:
    """What came of writing sidecars.

    Attributes:
        written: how many hold the rating now.
        kept: how many kept the rating that was there.
        problems: a sentence for each that was not written.
    """

    written: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


def write_sidecars(rows: Iterable[CullRow], naming: Naming, *, overwrite: bool = False) -> Outcome:
    """Writes the ratings of culled photos into sidecars, and the label of those that are kept.

    A sidecar that two photos would share (IMG_1.jpg and IMG_1.dng as IMG_1.xmp) is not written, nor
    is one of a photo that comes by URL.

    Args:
        rows: of the photos.
        naming: of the sidecars.
        overwrite: replace ratings and labels that are there.
    """
    outcome = Outcome()
    rated = [row for row in rows if row.rating is not None]
    local = [row for row in rated if not is_url(row.path)]
    outcome.problems += [
        f"{row.path} is no local file: it has no sidecar." for row in rated if is_url(row.path)
    ]
    shared = Counter(sidecar for row in local for sidecar in sidecars_of(row.path, naming))
    for row in local:
        for sidecar in sidecars_of(row.path, naming):
            if shared[sidecar] > 1:
                outcome.problems.append(
                    f"{shared[sidecar]} photos would share {sidecar}, {row.path} among them: it "
                    "is not written."
                )
                continue
            try:
                done = write_sidecar(
                    sidecar, Path(row.path), int(row.rating or 0), keep=bool(row.keep),
                    overwrite=overwrite,
                )  # fmt: skip
            except QFMError as error:
                outcome.problems.append(str(error))
                continue
            outcome.written += done
            outcome.kept += not done
    return outcome


def sidecars_of(photo: str, naming: Naming) -> list[Path]:
    """The sidecars of a photo."""
    path = Path(photo)
    full, stem = path.with_name(f"{path.name}.xmp"), path.with_suffix(".xmp")
    return {"full": [full], "stem": [stem], "both": [full, stem]}[naming]


def write_sidecar(
    sidecar: Path, photo: Path, rating: int, *, keep: bool, overwrite: bool = False
) -> bool:
    """Writes a rating, and the label of a photo that is kept, into a sidecar.

    Args:
        sidecar: the file, made if it is not there.
        photo: that it belongs to.
        rating: 1 to 5.
        keep: whether the photo is kept.
        overwrite: replace a rating and a label that are there.

    Returns:
        Whether the rating was written; if not, there was one already.

    Raises:
        QFMError: what is there is no XMP that can be changed, or cannot be written.
    """
    try:
        content = sidecar.read_bytes() if sidecar.exists() else None
    except OSError as error:
        raise QFMError(f"{sidecar} cannot be read: {error.strerror}.") from error
    packet = Packet(EMPTY if content is None else content, str(sidecar))
    rated = _has_rating(packet) or (content is None and _rated_itself(photo))
    label = packet.properties.get("Label")
    before = packet.content
    if overwrite or not rated:
        packet.set("Rating", str(rating))
    if keep and (overwrite or label is None or not label.value):
        packet.set("Label", KEEPER_LABEL)
    elif overwrite and label is not None and label.value == KEEPER_LABEL:
        packet.set("Label", "")  # of an earlier run, when this photo was the one to keep
    if packet.content != before:
        write_whole(packet.content.decode(), sidecar)
    return overwrite or not rated


def _has_rating(packet: Packet) -> bool:
    """Whether a packet holds a rating: 0 stands for none."""
    rating = packet.properties.get("Rating")
    return rating is not None and rating.value not in ("", "0")


def _rated_itself(photo: Path) -> bool:
    """Whether a photo carries a rating inside."""
    try:
        with Image.open(photo) as image:
            if image.getexif().get(ExifTags.Base.Rating):
                return True
            content = image.info.get("xmp", b"")
        content = content.encode() if isinstance(content, str) else content
        return bool(content) and _has_rating(Packet(content.strip(b"\0 \n"), str(photo)))
    except Exception:  # what cannot be read holds no rating for anybody
        return False
