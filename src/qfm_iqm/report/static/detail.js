// The dialog of one image, or of one image twice: photo, quality map, facts. Shared by report and service.
"use strict";

/** The value at one end of a map's colours: -1 the worse end, 1 the better. */
function mapEnd(map, end, higherIsBetter) {
  const value = (end > 0) === higherIsBetter ? map.high : map.low;
  return String(Number(value.toPrecision(3)));
}

/**
 * Shows one image at a time out of a list that the reader can walk through.
 *
 * `describe(index)` gives {name, score, below, facts: [[name, value]], photos: [{urls, alt, caption}],
 * map, note}; `urls` are tried in order until one can be shown, the last ones being stand-ins.
 */
class Detail {
  constructor(dialog, { describe, count, higherIsBetter = true, onclose = () => {}, actions = () => [] }) {
    Object.assign(this, { dialog, describe, count, higherIsBetter, actions });
    this.withMap = false;
    dialog.addEventListener("close", () => onclose(this.index));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select")) return;
      if (event.key === "ArrowRight" || event.key === "ArrowDown") this.step(1);
      else if (event.key === "ArrowLeft" || event.key === "ArrowUp") this.step(-1);
      else if (event.key.toLowerCase() === "m" && !event.ctrlKey && !event.metaKey) this.toggleMap();
      else return;
      event.preventDefault();
    });
  }

  open(index) {
    this.show(index);
    if (!this.dialog.open) this.dialog.showModal();
  }

  step(by) {
    const index = this.index + by;
    if (index >= 0 && index < this.count()) this.show(index);
  }

  toggleMap() {
    const button = $(".map-switch", this.dialog);
    if (!button) return;
    this.withMap = !this.withMap;
    this.show(this.index);
    $(".map-switch", this.dialog).focus();
  }

  show(index) {
    this.index = index;
    const item = this.describe(index);
    const stage = el("div", { className: item.photos.length > 1 ? "stage two" : "stage" });
    const note = el("p", { className: "note", role: "status" }, item.note || "");
    for (const photo of item.photos) stage.append(this.picture(photo, note, item.map));
    const held = this.dialog.contains(document.activeElement) && document.activeElement.dataset.act;
    const back = el("button", { type: "button", className: "button", disabled: index === 0, "data-act": "back", onclick: () => this.step(-1) }, "← Previous");
    const next = el("button", { type: "button", className: "button", disabled: index + 1 >= this.count(), "data-act": "next", onclick: () => this.step(1) }, "Next →");
    const close = el("button", { type: "button", className: "button close", "aria-label": "Close", "data-act": "close", onclick: () => this.dialog.close() }, "✕");
    const facts = el("dl");
    for (const [name, value] of item.facts) if (value !== null && value !== undefined) facts.append(el("dt", {}, name), el("dd", {}, value));
    const side = el(
      "div", { className: "facts" },
      el("h2", { id: "detail-name" }, item.name),
      el("p", { className: item.below ? "big below-text" : "big" }, item.score),
      facts,
    );
    if (item.map) {
      side.append(
        el("div", { className: "ramp" }),
        el("p", { className: "ramp-ends" }, el("span", {}, `${mapEnd(item.map, -1, this.higherIsBetter)} worse here`), el("span", {}, `better here ${mapEnd(item.map, 1, this.higherIsBetter)}`)),
        el("p", {}, el("button", { type: "button", className: "button map-switch", "data-act": "map", "aria-pressed": String(this.withMap), onclick: () => this.toggleMap() }, "Quality map")),
      );
    }
    side.append(note, el("div", { className: "row" }, back, next, ...this.actions(index)));
    this.dialog.replaceChildren(el("div", { className: "one" }, stage, side), close);
    const target = held && $(`[data-act="${held}"]:not(:disabled)`, this.dialog);
    (target || close).focus();
  }

  /** A photo with its map over it; stand-ins are tried where it cannot be shown. */
  picture({ urls, alt, caption }, note, map) {
    const image = el("img", { alt });
    const frame = el("div", { className: "photo" }, image);
    const left = [...urls];
    const next = () => {
      const url = left.shift();
      if (url) image.src = url.href;
      else image.replaceWith(el("p", { className: "quiet" }, "This image cannot be shown here."));
      if (url && url.note) note.textContent = url.note;
    };
    image.addEventListener("error", next);
    next();
    if (map && this.withMap) {
      const canvas = el("canvas", { role: "img", "aria-label": `Quality map: ${map.summary || "where the image looks better and worse"}` });
      drawMap(canvas, map, this.higherIsBetter);
      frame.append(canvas);
    }
    if (!caption) return frame;
    return el("figure", {}, frame, el("figcaption", {}, caption));
  }
}
