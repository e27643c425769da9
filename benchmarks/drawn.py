"""Images that are not photos: text pages, flat colors, noise, charts and pixel art."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = (
    "the quality of a photo is what people say of it who look at it while nobody asks how good "
    "a page of text looks 0 1 2 3 4 5 6 7 8 9 for there is nothing in it to be sharp or noisy"
)
SIZE = (640, 512)


def text_page(draw: np.random.Generator) -> Image.Image:
    """Black lines of text on white or cream."""
    page = Image.new("RGB", SIZE, ("white", "#faf5e6")[int(draw.integers(2))])
    pen, size = ImageDraw.Draw(page), int(draw.integers(10, 26))
    font = ImageFont.load_default(size)
    for top in range(24, SIZE[1] - size, round(1.4 * size)):
        pen.text((24, top), " ".join(draw.choice(TEXT.split(), 30)), font=font, fill="black")
    return page


def flat_color(draw: np.random.Generator) -> Image.Image:
    """One color."""
    return Image.new("RGB", SIZE, tuple(int(value) for value in draw.integers(0, 256, 3)))


def noise(draw: np.random.Generator) -> Image.Image:
    """Independent pixels, uniform or normal, gray or colored."""
    shape = (SIZE[1], SIZE[0], 3 if draw.random() < 0.5 else 1)
    if draw.random() < 0.5:
        pixels = draw.uniform(0, 256, shape)
    else:
        pixels = draw.normal(128, draw.uniform(20, 70), shape)
    pixels = np.broadcast_to(pixels.clip(0, 255), (SIZE[1], SIZE[0], 3))
    return Image.fromarray(pixels.astype(np.uint8))


def chart(draw: np.random.Generator) -> Image.Image:
    """Axes with bars or lines, and numbers."""
    page = Image.new("RGB", SIZE, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    pen.line((50, 20, 50, 470, 620, 470), fill="black", width=2)
    colors = [tuple(int(value) for value in draw.integers(0, 220, 3)) for _ in range(8)]
    if draw.random() < 0.5:
        for place, color in enumerate(colors):
            left, top = 65 + 68 * place, int(draw.integers(30, 440))
            pen.rectangle((left, top, left + 50, 469), fill=color)
    else:
        for color in colors[:3]:
            heights = np.cumsum(draw.normal(0, 18, 28)) + 240
            pen.line([(50 + 20 * x, int(y)) for x, y in enumerate(heights)], fill=color, width=3)
    for place in range(8):
        pen.text((80 + 68 * place, 480), str(place), font=font, fill="black")
    return page


def pixel_art(draw: np.random.Generator) -> Image.Image:
    """A few colors in large squares, the left half mirrored as in a sprite."""
    side, colors = int(draw.choice([8, 16, 24, 32])), int(draw.integers(3, 9))
    palette = draw.integers(0, 256, (colors, 3), dtype=np.uint8)
    half = draw.integers(0, colors, (side, side // 2))
    sprite = Image.fromarray(palette[np.concatenate([half, half[:, ::-1]], 1)])
    return sprite.resize((512, 512), Image.Resampling.NEAREST)


KINDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "text page": text_page,
    "flat color": flat_color,
    "noise": noise,
    "chart": chart,
    "pixel art": pixel_art,
}
