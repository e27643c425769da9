"""XMP sidecars with a photo's rating and label, for darktable, digiKam and Lightroom.

Design choices:
* Photos are never written to. An existing rating, in the sidecar or in the photo, is kept unless
  overwriting is requested; so is a label. XMP defines a rating of 0 as no rating.
* In an existing sidecar only the bytes of the rating and the label change; edits, keywords and
  comments of other programs are kept.
* There are two naming schemes: `photo.jpg.xmp` (darktable, digiKam) and `photo.xmp` (Lightroom,
  only for raw files; digiKam, if configured).
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

KEEPER_LABEL = "Green"  # all three programs understand color names


@dataclass
class Outcome:
    """The result of writing sidecars.

    Attributes:
        written: number of sidecars with the new rating.
        kept: number of sidecars that kept an existing rating.
        problems: one sentence for each sidecar that was not written.
    """

    written: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


def write_sidecars(rows: Iterable[CullRow], naming: Naming, *, overwrite: bool = False) -> Outcome:
    """Writes the ratings of culled photos to sidecars, and a label for photos to keep.

    Sidecars that two photos would share (IMG_1.xmp for IMG_1.jpg and IMG_1.dng) and sidecars of
    photos from URLs are not written.

    Args:
        rows: rows of the photos.
        naming: naming scheme of the sidecars.
        overwrite: replace existing ratings and labels.
    """
    outcome = Outcome()
    rated = [row for row in rows if row.rating is not None]
    local = [row for row in rated if not is_url(row.path)]
    outcome.problems += [
        f"{row.path} is not a local file: it has no sidecar." for row in rated if is_url(row.path)
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
    """Writes a rating, and a label for a photo to keep, to a sidecar.

    Args:
        sidecar: the file; created if missing.
        photo: the photo that it belongs to.
        rating: rating, 1 to 5.
        keep: whether to keep the photo.
        overwrite: replace an existing rating and label.

    Returns:
        Whether the rating was written; False if one existed.

    Raises:
        QFMError: the existing file is not XMP that can be changed, or the file cannot be written.
    """
    try:
        content = sidecar.read_bytes() if sidecar.exists() else None
    except OSError as error:
        raise QFMError(f"{sidecar} cannot be read: {error.strerror}.") from error
    packet = Packet(EMPTY if content is None else content, str(sidecar))
    rated = _has_rating(packet) or _rated_itself(photo)
    label = packet.properties.get("Label")
    before = packet.content
    if overwrite or not rated:
        packet.set("Rating", str(rating))
    if keep and (overwrite or label is None or not label.value):
        packet.set("Label", KEEPER_LABEL)
    elif overwrite and label is not None and label.value == KEEPER_LABEL:
        packet.set("Label", "")  # from an earlier run in which this photo was kept
    if packet.content != before:
        write_whole(packet.content.decode(), sidecar)
    return overwrite or not rated


def _has_rating(packet: Packet) -> bool:
    """Whether a packet holds a rating; 0 means none."""
    rating = packet.properties.get("Rating")
    return rating is not None and rating.value not in ("", "0")


def _rated_itself(photo: Path) -> bool:
    """Whether a photo has an embedded rating."""
    try:
        with Image.open(photo) as image:
            if image.getexif().get(ExifTags.Base.Rating):
                return True
            content = image.info.get("xmp", b"")
        content = content.encode() if isinstance(content, str) else content
        return bool(content) and _has_rating(Packet(content.strip(b"\0 \n"), str(photo)))
    except Exception:  # unreadable metadata count as no rating
        return False
