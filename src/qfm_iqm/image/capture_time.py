"""Capture time of a photo from its EXIF data; file times are not used."""

import re
from contextlib import suppress
from datetime import datetime

from PIL import ExifTags, Image

TIME_TAGS = (
    (0x9003, 0x9291, 0x9011),
    (0x9004, 0x9292, 0x9012),
)
"""Tags of time, fraction of a second and UTC offset: of exposure, then of digitization."""


def capture_time(image: Image.Image) -> str:
    """The capture time of an opened image, as ISO 8601.

    Returns:
        Local time to the microsecond, with the UTC offset if EXIF has it, as in
        "2024-05-01T12:30:05.250000+02:00"; empty if there is no valid time.
    """
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged metadata do not make an image unreadable
        return ""
    for time, fraction, offset in TIME_TAGS:
        found = re.match(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", str(tags.get(time, "")))
        if found is None:
            continue
        digits = re.match(r"\d*", str(tags.get(fraction, "")))
        zone = re.match(r"[+-]\d\d:\d\d", str(tags.get(offset, "")))
        text = f"{found[1]}-{found[2]}-{found[3]}T{found[4]}"
        text += f".{digits[0][:6]:0<6}" if digits else ""
        for zoned in (text + zone[0], text) if zone else (text,):
            # Some cameras' clocks were never set, and some offsets from UTC are impossible.
            with suppress(ValueError):
                return datetime.fromisoformat(zoned).isoformat()
    return ""
