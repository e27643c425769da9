// A common zoom for several pictures: they are moved and enlarged together.
"use strict";

const MOST_ZOOM = 32;

/**
 * Zooms the views in a stage by wheel, buttons and keys, and moves them by dragging. The stage's CSS
 * variables --zoom, --x and --y hold the position; x and y are in % of a view, so that views of any
 * size show the same region.
 */
class Zoom {
  constructor(stage, onchange = () => {}) {
    Object.assign(this, { stage, onchange, scale: 1, x: 0, y: 0 });
    stage.addEventListener("wheel", (event) => {
      const view = event.target.closest(".view");
      if (!view) return;
      event.preventDefault();
      this.by(2 ** (-event.deltaY / 300), this.placeOf(event, view));
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      const view = event.target.closest(".view");
      if (!view || event.button !== 0) return;
      this.held = { x: event.clientX, y: event.clientY, view };
      view.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!this.held) return;
      const { width, height } = this.held.view.getBoundingClientRect();
      this.move((100 * (event.clientX - this.held.x)) / width / this.scale, (100 * (event.clientY - this.held.y)) / height / this.scale);
      Object.assign(this.held, { x: event.clientX, y: event.clientY });
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { this.held = null; });
    this.draw();
  }

  /** A pointer's position in a view, in % from its center. */
  placeOf(event, view) {
    const box = view.getBoundingClientRect();
    return { x: (100 * (event.clientX - box.left)) / box.width - 50, y: (100 * (event.clientY - box.top)) / box.height - 50 };
  }

  /** Zooms by a factor around a position in the views. */
  by(factor, { x, y } = { x: 0, y: 0 }) {
    const scale = Math.min(Math.max(this.scale * factor, 1), MOST_ZOOM);
    this.x += x / scale - x / this.scale;
    this.y += y / scale - y / this.scale;
    this.scale = scale;
    this.move(0, 0);
  }

  move(x, y) {
    const most = 50 * (1 - 1 / this.scale);
    this.x = Math.min(Math.max(this.x + x, -most), most);
    this.y = Math.min(Math.max(this.y + y, -most), most);
    this.draw();
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.draw();
  }

  draw() {
    this.stage.style.setProperty("--zoom", this.scale);
    this.stage.style.setProperty("--x", `${this.x}%`);
    this.stage.style.setProperty("--y", `${this.y}%`);
    this.onchange(this);
  }
}
