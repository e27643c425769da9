"""Converts numeric color descriptions to ICC profiles.

PNG (cICP, gAMA, cHRM), AVIF, HEIC (nclx) and JPEG 2000 can describe colors without a profile. Such
a description is converted to an equivalent profile, which `image.color` treats like any other.
sRGB needs no profile: `b""`.

Design choices:
* The curves of BT.601, BT.709 and BT.2020 count as sRGB's, as in browsers: these codes are written
  by convention, for images made on sRGB screens.
* A gAMA within 5 % of 1/2.2 counts as sRGB's curve, as in libpng.
* PQ and HLG (HDR) are refused, because mapping them to 0..1 requires a choice of tone mapping.

Sources: ITU-T H.273 (codes), ICC.1:2022 (profiles), PNG third edition (chunks and their order).
"""

import functools
import struct

import numpy as np

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import ImageError

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue (CIE 1931), in the order of PNG's cHRM."""

SRGB_CURVE = 0.0
"""Stands for sRGB's curve where an exponent is expected."""

GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")

_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
_SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_SMPTE_C: Chromaticities = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_UNSPECIFIED = 2
_PRIMARIES: dict[int, Chromaticities] = {  # H.273, table 2
    1: _SRGB,
    _UNSPECIFIED: _SRGB,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _SMPTE_C,
    7: _SMPTE_C,
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (*_DCI, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_CURVES = dict.fromkeys((1, _UNSPECIFIED, 6, 11, 12, 13, 14, 15), SRGB_CURVE)  # table 3
_CURVES |= {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}

_D50 = (0.9642, 1.0, 0.8249)  # white point of the profile connection space
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def refuse_hdr(transfer: int) -> None:
    """Refuses the transfer characteristics (H.273) of HDR."""
    if transfer in _HDR:
        raise ImageError(f"not supported: HDR colors ({_HDR[transfer]}); export it as SDR")


def coded_profile(primaries: int, transfer: int, *, mode: str) -> bytes:
    """The profile of colors described by code points (CICP): cICP, nclx.

    Args:
        primaries: ColorPrimaries of H.273.
        transfer: TransferCharacteristics of H.273.
        mode: Pillow's mode of the image.

    Raises:
        ImageError: the code points mean HDR, or are not supported.
    """
    refuse_hdr(transfer)
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ImageError(
            f"not supported: its colors (primaries {primaries}, transfer {transfer} of H.273); "
            "export it as an sRGB image"
        )
    return profile(_CURVES[transfer], None if mode in GRAY_MODES else _PRIMARIES[primaries])


def measured_profile(
    gamma: float | None, chromaticities: Chromaticities | None, *, gray: bool
) -> bytes:
    """The profile of colors described by exponent and chromaticities: gAMA, cHRM.

    Args:
        gamma: gamma of the file, such as 1/2.2; None or an invalid value takes sRGB's curve.
        chromaticities: chromaticities of the file; None or invalid ones take sRGB's.
        gray: whether the image is gray.
    """
    exponent = SRGB_CURVE
    if gamma is not None and gamma > 0 and abs(gamma * 2.2 - 1) > 0.05:
        exponent = 1 / gamma
    if gray:
        return profile(exponent, None)
    try:
        return profile(exponent, chromaticities or _SRGB)
    except (ArithmeticError, np.linalg.LinAlgError, struct.error):
        return profile(exponent, _SRGB)


@functools.lru_cache(maxsize=16)
def profile(exponent: float, chromaticities: Chromaticities | None) -> bytes:
    """An ICC profile with a curve and primaries; `b""` for sRGB.

    Args:
        exponent: exponent from value to light, or `SRGB_CURVE`.
        chromaticities: chromaticities of white and primaries; None for gray.

    Raises:
        ArithmeticError, LinAlgError, struct.error: the chromaticities span no colors.
    """
    if exponent == SRGB_CURVE and (
        chromaticities is None or np.allclose(chromaticities, _SRGB, atol=0.002)
    ):
        return b""
    if exponent == SRGB_CURVE:
        parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(*parameters)
    else:
        curve = b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed(exponent)
    if chromaticities is None:
        return _icc(b"GRAY", {b"wtpt": _xyz(_D50), b"kTRC": curve})
    columns = _primaries_in_d50(chromaticities)
    tags = {b"wtpt": _xyz(_D50)}
    tags |= {name: _xyz(columns[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _icc(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def _primaries_in_d50(chromaticities: Chromaticities) -> Doubles:
    """Red, green and blue as columns of XYZ that sum to D50 (Bradford adaptation)."""
    points = np.array(chromaticities, dtype=np.float64).reshape(4, 2)
    if not (points[:, 1] > 0).all():
        raise ArithmeticError("a chromaticity has no luminance")
    xyz = np.column_stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)]) / points[:, 1:]
    white, colors = xyz[0], xyz[1:].T
    shares = np.linalg.solve(colors, white)
    if not (shares > 0).all():
        raise ArithmeticError("white is not a mixture of the primaries")
    colors = colors * shares
    scale = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    return np.asarray(np.linalg.solve(_BRADFORD, scale[:, None] * (_BRADFORD @ colors)))


def _icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """The bytes of a display profile, version 4.3; tag sizes must be multiples of 4 bytes."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI", start + len(body), bytes(4), 0x04300000)
    head += b"mntr" + space + b"XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    return (head + bytes(28) + _fixed(*_D50)).ljust(128, b"\0") + table + body


def _xyz(values: Doubles | tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _fixed(*values: float) -> bytes:
    """Encodes numbers as s15Fixed16."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
