// What report and service share. Names of files come from anywhere: text is only ever set as
// text, never parsed as HTML.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);

/** An element with properties, and children that are elements or text. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "object") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of an SVG with attributes. */
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const whole = (value) => value.toLocaleString("en-US");
const share = (part, all) => (all ? `${((100 * part) / all).toFixed(part === all || part === 0 ? 0 : 1)} %` : "0 %");
const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

/** Decimals that tell scores apart on a scale of this length. */
function decimalsOf(length) {
  return length <= 2 ? 3 : length <= 20 ? 2 : 1;
}

/** The ends of the axis: the scale people rated on, or else the scores' own, rounded outwards. */
function axisOf(label, scores) {
  let low = label.minimum ?? Infinity, high = label.maximum ?? -Infinity;
  for (const score of scores) {
    if (score === null || score === undefined) continue;
    if (score < low) low = score;
    if (score > high) high = score;
  }
  if (!(low <= high)) return { low: 0, high: 1, step: 0.2 };
  if (low === high) { low -= 0.5; high += 0.5; }
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  return { low: Math.floor(low / step + 1e-9) * step, high: Math.ceil(high / step - 1e-9) * step, step };
}

/** The folder that all of these folders lie in, with its slash. */
function commonFolder(names) {
  const first = names[0] ?? "";
  let cut = names.length > 1 ? first.length : 0;
  for (const name of names) while (!name.startsWith(first.slice(0, cut))) cut = first.lastIndexOf("/", cut - 2) + 1;
  return first.slice(0, cut);
}

/** One CSV field, as `qfm score` writes it. */
function csvField(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvOf(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
  return lines.map((line) => line.map(csvField).join(",")).join("\n") + "\n";
}

/** Hands a file to the user. */
function saveAs(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const RAMP = [[178, 24, 43], [239, 138, 98], [247, 247, 247], [103, 169, 207], [33, 102, 172]];

/** The colour of a share between worst (0) and best (1), red over white to blue. */
function rampColour(share_) {
  const at = Math.min(Math.max(share_, 0), 1) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[i].map((channel, k) => Math.round(channel + (at - i) * (RAMP[i + 1][k] - channel)));
}

/** Draws a quality map {rows, columns, values: 0..255 row by row} one cell a pixel. */
function drawMap(canvas, map, higherIsBetter = true) {
  canvas.width = map.columns;
  canvas.height = map.rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(map.columns, map.rows);
  map.values.forEach((step, i) => {
    const at = step / 255;
    pixels.data.set([...rampColour(higherIsBetter ? at : 1 - at), 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
}

/** A histogram with a threshold handle: a native slider lies over the bars. */
class Histogram {
  constructor(root, sorted, axis, decimals, onchange) {
    this.axis = axis;
    this.decimals = decimals;
    this.onchange = onchange;
    const width = 1000, height = 220, bins = 60;
    const counts = new Array(bins).fill(0);
    for (const score of sorted) {
      const bin = Math.floor(((score - axis.low) / (axis.high - axis.low)) * bins);
      counts[Math.min(Math.max(bin, 0), bins - 1)] += 1;
    }
    const most = Math.max(1, ...counts), w = width / bins;
    const bars = counts
      .map((count, i) => (count ? `M${i * w + 1} ${height}v${-Math.max(2, (count / most) * (height - 8))}h${w - 2}V${height}z` : ""))
      .join("");
    this.clip = svg("rect", { x: 0, y: 0, width: 0, height });
    const drawing = svg(
      "svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("defs", {}, svg("clipPath", { id: "below" }, this.clip)),
      svg("path", { d: bars, class: "bars" }),
      svg("path", { d: bars, class: "bars below", "clip-path": "url(#below)" }),
    );
    this.slider = el("input", {
      type: "range", min: axis.low, max: axis.high, step: 10 ** -decimals,
      "aria-label": "Threshold", oninput: () => this.set(Number(this.slider.value)),
    });
    const ticks = el("div", { className: "ticks", "aria-hidden": "true" });
    for (let i = 0; axis.low + i * axis.step <= axis.high + axis.step / 1e6; i += 1) {
      const at = axis.low + i * axis.step;
      const tick = el("span", {}, String(Number(at.toPrecision(6))));
      tick.style.left = `${((at - axis.low) / (axis.high - axis.low)) * 100}%`;
      ticks.append(tick);
    }
    root.replaceChildren(el("div", { className: "plot" }, drawing, this.slider), ticks);
    this.width = width;
  }

  /** Moves the handle, and says so. */
  set(value, silent = false) {
    const { low, high } = this.axis;
    this.value = Math.min(Math.max(value, low), high);
    this.slider.value = this.value;
    this.slider.setAttribute("aria-valuetext", this.value.toFixed(this.decimals));
    this.clip.setAttribute("width", ((this.value - low) / (high - low)) * this.width);
    if (!silent) this.onchange(this.value);
  }
}

/** The first place in an ascending array whose value is not below `value`. */
function countBelow(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
