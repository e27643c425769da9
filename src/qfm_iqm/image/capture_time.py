"""When a photo was taken, by its own EXIF. Times of files say nothing about that."""

import re
from datetime import datetime

from PIL import ExifTags, Image

TIME_TAGS = (
    (0x9003, 0x9291, 0x9011),
    (0x9004, 0x9292, 0x9012),
)
"""Tags of time, fraction of its second, offset from UTC: of the exposure, then of digitizing."""


def capture_time(image: Image.Image) -> str:
    """When an opened image was taken, as ISO 8601.

    Returns:
        Local time to the microsecond, with the offset from UTC where EXIF tells it, as in
        "2024-05-01T12:30:05.250000+02:00"; empty where there is no time, or none that makes sense.
    """
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged metadata say nothing against the pixels
        return ""
    for time, fraction, offset in TIME_TAGS:
        found = re.match(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", str(tags.get(time, "")))
        if found is None:
            continue
        digits = re.match(r"\d*", str(tags.get(fraction, "")))
        zone = re.match(r"[+-]\d\d:\d\d", str(tags.get(offset, "")))
        text = f"{found[1]}-{found[2]}-{found[3]}T{found[4]}"
        text += f".{digits[0][:6]:0<6}" if digits else ""
        try:
            return datetime.fromisoformat(text + (zone[0] if zone else "")).isoformat()
        except ValueError:  # a camera whose clock was never set
            continue
    return ""
