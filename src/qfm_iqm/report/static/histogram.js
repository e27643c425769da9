// Histograms. Shared by both reports.
"use strict";

const PLOT = { width: 1000, height: 220 };

/** Counts values in equal bins along the axis. */
function countsOf(values, axis, bins) {
  const counts = new Array(bins).fill(0);
  for (const value of values) {
    const bin = Math.floor(((value - axis.low) / (axis.high - axis.low)) * bins);
    counts[Math.min(Math.max(bin, 0), bins - 1)] += 1;
  }
  return counts;
}

/** The bars of counts as an SVG path; `from` and `to` select some of them. */
function barsOf(counts, from = 0, to = counts.length) {
  const { width, height } = PLOT, most = Math.max(1, ...counts), w = width / counts.length;
  return counts
    .map((count, i) => (count && i >= from && i < to ? `M${i * w + 1} ${height}v${-Math.max(2, (count / most) * (height - 8))}h${w - 2}V${height}z` : ""))
    .join("");
}

function plotOf(...children) {
  return svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...children);
}

/** The numbers below an axis. */
function ticksOf(axis, say = (value) => String(Number(value.toPrecision(6)))) {
  const ticks = el("div", { className: "ticks", "aria-hidden": "true" });
  for (let i = 0; axis.low + i * axis.step <= axis.high + axis.step / 1e6; i += 1) {
    const at = axis.low + i * axis.step;
    const tick = el("span", {}, say(at));
    tick.style.left = `${((at - axis.low) / (axis.high - axis.low)) * 100}%`;
    ticks.append(tick);
  }
  return ticks;
}

/** A histogram with a threshold handle: a native slider over the bars. */
class Histogram {
  constructor(root, scores, axis, decimals, onchange) {
    Object.assign(this, { axis, decimals, onchange });
    const bars = barsOf(countsOf(scores, axis, 60));
    this.clip = svg("rect", { x: 0, y: 0, width: 0, height: PLOT.height });
    const drawing = plotOf(
      svg("defs", {}, svg("clipPath", { id: "below" }, this.clip)),
      svg("path", { d: bars, class: "bars" }),
      svg("path", { d: bars, class: "bars below", "clip-path": "url(#below)" }),
    );
    this.slider = el("input", {
      type: "range", min: axis.low, max: axis.high, step: 10 ** -decimals,
      "aria-label": "Threshold", oninput: () => this.set(Number(this.slider.value)),
    });
    root.replaceChildren(el("div", { className: "plot" }, drawing, this.slider), ticksOf(axis));
  }

  /** Moves the handle, within the axis, and calls `onchange`. */
  set(value) {
    const { low, high } = this.axis;
    this.value = Math.min(Math.max(value, low), high);
    this.slider.value = this.value;
    this.slider.setAttribute("aria-valuetext", this.value.toFixed(this.decimals));
    this.clip.setAttribute("width", ((this.value - low) / (high - low)) * PLOT.width);
    this.onchange(this.value);
  }
}
