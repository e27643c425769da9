"""Figure of a quality map: the photo, the map of the same pixels, and the scale.

Design choices:
* Cells are drawn without smoothing, because the map is not finer than its patches.
* Colors are cividis, which is safe for color blindness; dark is bad.
* The colors span the map's values, but at least a tenth of the label's range, so that an even photo
  looks even.
"""

from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.preprocess_torch import eight_bits
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.quality_map import QualityMap
from qfm_iqm.report.drawing import INK, QUIET, VERMILION, save

_LONG = 1000  # pixels of the photo's longer side in the figure
_PICTURE, _MARGIN, _GAP, _BAR, _HEAD = 4.6, 0.3, 0.25, 0.22, 0.75  # inches
_LEAST = 0.1  # least share of the label's range that the colors span


def draw_map(quality_map: QualityMap, image_CHW: Tensor, label: LabelUnits, out: Path) -> None:
    """Draws photo, map and scale side by side, as SVG or PNG by the file extension.

    Args:
        quality_map: map of the image.
        image_CHW: the upright image (3, H, W) in [0, 1].
        label: display units of the map.
        out: file to write; replaced only when the new one is complete.

    Raises:
        TableError: the file has another extension or cannot be written.
    """
    save(lambda: _figure(quality_map, image_CHW, label), out, title="Quality map")


def _figure(quality_map: QualityMap, image_CHW: Tensor, label: LabelUnits) -> Figure:
    aspect = quality_map.width / quality_map.height
    wide, high = (_PICTURE, _PICTURE / aspect) if aspect >= 1 else (_PICTURE * aspect, _PICTURE)
    width = 2 * _MARGIN + 2 * wide + 2 * _GAP + _BAR + 0.75
    height = _HEAD + high + _MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")
    low, high_value = color_span(quality_map, label)
    boxes = (_MARGIN, _MARGIN + wide + _GAP)
    for left, title in zip(boxes, ("photo", "where it is good or bad"), strict=True):
        axes = figure.add_axes((left / width, _MARGIN / height, wide / width, high / height))
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize=9.5, color=QUIET, pad=5)
        if left == _MARGIN:
            axes.imshow(_reduced(image_CHW))
        else:
            shown = axes.imshow(
                quality_map.values, cmap="cividis" if label.higher_is_better else "cividis_r",
                vmin=low, vmax=high_value, interpolation="nearest", aspect="auto",
            )  # fmt: skip
    left = boxes[1] + wide + _GAP
    bar = figure.add_axes((left / width, _MARGIN / height, _BAR / width, high / height))
    figure.colorbar(shown, cax=bar)
    bar.axhline(quality_map.score, color=VERMILION, linewidth=2)
    bar.set_title(label.name, loc="left", fontsize=9.5, color=QUIET, pad=5)
    bar.tick_params(labelcolor=INK)
    title = f"{label.name} {quality_map.score:.3g}: the mean of the map, marked on its scale"
    figure.text(_MARGIN / width, 1 - 0.27 / height, title, fontsize=12, fontweight="bold",
                va="center")  # fmt: skip
    return figure


def color_span(quality_map: QualityMap, label: LabelUnits) -> tuple[float, float]:
    """The range of the colors: the map's range, symmetrically widened to the least span."""
    low, high = float(quality_map.values.min()), float(quality_map.values.max())
    least = 1e-6 if label.span is None else _LEAST * label.span
    more = max(0.0, least - (high - low)) / 2
    return low - more, high + more


def _reduced(image_CHW: Tensor) -> Bytes:
    """The photo as (H, W, 3) pixels, reduced to the size in the figure."""
    scale = min(1.0, _LONG / max(image_CHW.shape[-2:]))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in image_CHW.shape[-2:]]
        image_CHW = functional.interpolate(image_CHW[None], size, mode="area")[0]
    pixels: Bytes = eight_bits(image_CHW.clamp(0, 1)).permute(1, 2, 0).cpu().numpy()
    return pixels
