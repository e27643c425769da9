// Shared by report and service. File names are untrusted: text is only set as text, never parsed
// as HTML.
"use strict";

const known = (value) => value !== null && value !== undefined;
const $ = (selector, root = document) => root.querySelector(selector);

/** Creates an element with properties, and children that are elements or text. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (!known(value) || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "object") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(known));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** Creates an SVG element with attributes. */
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const whole = (value) => value.toLocaleString("en-US");
const share = (part, all) => (all ? `${((100 * part) / all).toFixed(part === all || part === 0 ? 0 : 1)} %` : "0 %");
const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

/** Figures [name, value, small print] as the terms of a list. */
function termsOf(figures) {
  return figures.map(([name, value, small]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value, small ? el("small", {}, ` ${small}`) : null)));
}

/** A bar that is filled to a share of 0 to 1. */
function meterOf(part) {
  const meter = el("span", { className: "meter", "aria-hidden": "true" }, el("span"));
  meter.firstChild.style.width = `${100 * part}%`;
  return meter;
}

/** Shows the first URL that loads, calling `tried` for each URL tried; calls `none` if none loads. */
function showFirst(image, urls, none, tried = () => {}) {
  const left = [...urls];
  const next = () => {
    const url = left.shift();
    if (!url) return none();
    image.src = url.href;
    return tried(url);
  };
  image.addEventListener("error", next);
  next();
}

/** Number of decimals that distinguish scores on a scale of this length. */
function decimalsOf(length) {
  return length <= 2 ? 3 : length <= 20 ? 2 : 1;
}

/** The axis: the rating scale, or else the range of the scores, rounded outwards. */
function axisOf(label, scores) {
  let low = label.minimum ?? Infinity, high = label.maximum ?? -Infinity;
  for (const score of scores) {
    if (!known(score)) continue;
    if (score < low) low = score;
    if (score > high) high = score;
  }
  if (!(low <= high)) return { low: 0, high: 1, step: 0.2 };
  if (low === high) { low -= 0.5; high += 0.5; }
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  return { low: Math.floor(low / step + 1e-9) * step, high: Math.ceil(high / step - 1e-9) * step, step };
}

/** One CSV field, as `qfm score` writes it: an apostrophe keeps a text from being a formula. */
function csvField(value) {
  const guard = typeof value === "string" && /^'*[=+\-@\t\r\n]/.test(value) ? "'" : "";
  const text = known(value) ? guard + value : "";
  return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvOf(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
  return lines.map((line) => line.map(csvField).join(",")).join("\n") + "\n";
}

/** Downloads a text as a file. */
function saveAs(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Why there is no score, without the image's name, which is shown beside it. */
const reasonOf = (sentence) => sentence.replace(/^cannot read (['"]).*?\1: /, "");

/** A cause of low quality for people: "compression, about 30 points". */
const causeInWords = (cause, severity) => (cause === "none" || typeof severity !== "number" ? cause : `${cause}, about ${Math.round(severity)} points`);

/** A number for display, with a true minus sign and none before zero. */
function written(value, decimals) {
  const text = Math.abs(value).toFixed(decimals);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

/** The same, with a plus sign before positive numbers. */
function signed(value, decimals) {
  const text = written(value, decimals);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

/** The first index in an ascending array whose value is not below `value`. */
function countBelow(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
