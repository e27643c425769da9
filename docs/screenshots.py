"""Takes the README's screenshots: scores photos, then opens the report and the page.

    make screenshots     (or: python docs/screenshots.py, with Chromium, extras browser and demo)

Photographs come inside scikit-image's wheel; they are degraded as in `make demo`.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from qfm_iqm import read_image
from qfm_iqm.image.preprocess_torch import distort_tensor

OUT = Path(__file__).parent / "images"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
QFM = [sys.executable, "-m", "qfm_iqm"]


def main() -> None:
    """Writes docs/images/*.png."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("There is no chromium: apt-get install chromium")
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        work = Path(name)
        write_photos(work / "holiday")
        write_copies(work / "holiday", work / "copies")
        run(work, "score", "holiday", "--out", "scores.csv")
        run(work, "score", "copies", "--out", "copies.csv")
        run(
            work,
            "report",
            "scores.csv",
            "copies.csv",
            "--out",
            "compare.html",
            "--title",
            "Photos, and the same as JPEGs of quality 30",
        )
        run(
            work,
            "report",
            "scores.csv",
            "--out",
            "report.html",
            "--title",
            "Holiday photos",
            "--maps",
            "6",
        )
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def page(url: str, width: int, height: int) -> Page:
            viewport = {"width": width, "height": height}
            context = browser.new_context(viewport=viewport, color_scheme="light")  # type: ignore[arg-type]
            opened = context.new_page()
            opened.goto(url)
            return opened

        report = (work / "report.html").as_uri()
        shot = page(report, 1180, 1240)
        shot.locator("#grid img").first.wait_for()
        settle(shot, "report")
        settle(page((work / "compare.html").as_uri(), 1180, 1240), "compare")

        script = Path(__file__).parents[1] / "examples" / "photos.py"
        subprocess.run([sys.executable, script], cwd=work, check=True)
        run(work, "cull", "photos/burst", "--out", "cull.csv", "--report", "cull.html")
        settle(page((work / "cull.html").as_uri(), 1180, 720), "moments")

        service = subprocess.Popen(
            [*QFM, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
        )
        try:
            assert service.stderr is not None
            url = re.search(r"http://\S+", service.stderr.readline())
            assert url is not None
            shot = page(url.group(), 1180, 760)
            chosen = sorted((work / "holiday").rglob("*.jpg"))[::4]
            shot.set_input_files("#files", [str(path) for path in chosen])
            shot.locator("#progress", has_text="scored").wait_for(timeout=300_000)
            settle(shot, "page")
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
        browser.close()
    print(f"Written to {OUT}")


def settle(page: Page, name: str) -> None:
    """Waits for images, then takes a screenshot."""
    page.wait_for_timeout(1500)
    path = OUT / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").save(path, optimize=True)


def run(folder: Path, *arguments: str) -> None:
    """Runs `qfm` in a folder."""
    print("$ qfm", *arguments, flush=True)
    subprocess.run([*QFM, *arguments], cwd=folder, check=True)


def write_photos(folder: Path) -> None:
    """Writes original and degraded photos, each kind in its own folder."""
    source = Path(skimage.__file__).parent / "data"
    for photo in PHOTOS:
        image = read_image(source / photo)
        kinds = [("original", image)] + [
            (f"{kind}", distort_tensor(image, kind, level))
            for kind in ("gaussian blur", "jpeg", "white noise")
            for level in (2, 4)
        ]
        for number, (kind, pixels) in enumerate(kinds):
            path = folder / kind / f"{Path(photo).stem.removesuffix('_left')}_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = (pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            Image.fromarray(values).save(path, quality=92)


def write_copies(photos: Path, copies: Path) -> None:
    """Writes the same photos as JPEGs of quality 30."""
    for photo in sorted(photos.rglob("*.jpg")):
        path = copies / photo.relative_to(photos)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(photo).save(path, quality=30)


if __name__ == "__main__":
    main()
