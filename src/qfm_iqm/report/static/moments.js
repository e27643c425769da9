// The page of moments: which photos to keep, and which to reject.
"use strict";

const data = JSON.parse($("#data").textContent);
const columns = unpacked(data);
const folderOf = (i) => data.folders[columns.folder[i]];
const pathOf = (i) => folderOf(i).name + columns.name[i];

/** The rows of each moment, the best first. */
const moments = [];
for (let i = 0; i < data.rows; i += 1) {
  if (i === 0 || columns.moment[i] !== columns.moment[i - 1]) moments.push([]);
  moments.at(-1).push(i);
}

// ---- decisions: what differs from the suggestion, kept by the browser ----

const STORE = `qfm-cull-${data.id}`;
const changed = new Set(stored());
const isKept = (i) => columns.keep[i] !== changed.has(i);

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? [];
  } catch {
    return []; // a browser that keeps nothing
  }
}

function decide(i, keep) {
  if (isKept(i) !== keep) changed[changed.has(i) ? "delete" : "add"](i);
  try {
    localStorage.setItem(STORE, JSON.stringify([...changed]));
  } catch {
    // it holds as long as the page is open
  }
  mark();
}

// ---- one moment ----

let shown = 0, current = 0;
const stage = $("#stage");
const zoom = new Zoom(stage, ({ scale }) => {
  $("#scale").textContent = scale === 1 ? "fitted" : `${scale.toFixed(1)} ×`;
  $("#in").disabled = scale >= MOST_ZOOM;
  $("#out").disabled = scale <= 1;
  $("#pixels").setAttribute("aria-pressed", String(scale > 1));
});

/** A photo that can be moved about in its view, or the report's small copy of it. */
function picture(i) {
  const left = urlsOf(folderOf(i), columns.name[i], data.thumbnails[i]);
  const image = el("img", { alt: `Photo ${columns.name[i]}`, draggable: false, decoding: "async" });
  const next = () => {
    const url = left.shift();
    if (url) image.src = url.href;
    else image.replaceWith(el("span", { className: "none" }, "This photo cannot be shown here."));
  };
  image.addEventListener("error", next);
  next();
  return image;
}

function pane(i) {
  const choice = (keep, text) => el("button", { type: "button", className: "button", "data-keep": String(keep), tabIndex: -1, onclick: () => decide(i, keep) }, text);
  const kind = { exact: "exact duplicate · ", near: "near duplicate · " }[columns.duplicate[i]] ?? "";
  return el(
    "div", { className: "pane", role: "group", "data-row": i, onclick: () => focusOn(moments[shown].indexOf(i), false) },
    el("div", { className: "view" }, picture(i)),
    el("div", { className: "words" },
      el("p", { className: "line" }, el("span", { className: "name", title: pathOf(i) }, columns.name[i]), el("span", { className: "score" }, written(columns.score[i], 1))),
      el("p", {}, `${columns.rank[i]}. ${kind}${columns.reason[i]}`)),
    el("div", { className: "choice" }, choice(true, "Keep"), choice(false, "Reject")),
  );
}

function show(place) {
  shown = Math.min(Math.max(place, 0), moments.length - 1);
  current = 0;
  const rows = moments[shown];
  const few = rows.length <= 4;
  stage.style.setProperty("--least", few ? `${90 / Math.max(rows.length, 2)}vw` : "18rem");
  stage.style.setProperty("--tall", few ? "56vh" : "32vh");
  if (matchMedia("(max-width: 46rem)").matches) stage.style.setProperty("--least", "100%");
  stage.replaceChildren(...rows.map(pane));
  zoom.reset();
  const taken = columns.taken[rows[0]];
  $("#moment-title").textContent = `Moment ${whole(shown + 1)} of ${whole(moments.length)}: ${plural(rows.length, "photo")}${taken ? `, ${taken.slice(0, 19).replace("T", " ")}` : ""}`;
  $("#jump").value = shown + 1;
  $("#jump").setAttribute("aria-valuetext", `Moment ${shown + 1} of ${moments.length}`);
  $("#back").disabled = shown === 0;
  $("#next").disabled = shown === moments.length - 1;
  mark();
  ahead(shown + 1);
}

/** Has the browser read the photos of the next moment. */
function ahead(place) {
  for (const i of (moments[place] ?? []).slice(0, 8)) new Image().src = urlsOf(folderOf(i), columns.name[i])[0].href;
}

/** Tells what is decided, on every pane and in all. */
function mark() {
  let kept = 0;
  for (let i = 0; i < data.rows; i += 1) kept += isKept(i);
  for (const [place, node] of [...stage.children].entries()) {
    const i = Number(node.dataset.row), keep = isKept(i);
    node.classList.toggle("keep", keep);
    node.classList.toggle("reject", !keep);
    node.classList.toggle("current", place === current);
    node.tabIndex = place === current ? 0 : -1;
    node.setAttribute("aria-label", `${columns.name[i]}: ${keep ? "keep" : "reject"}, ${columns.reason[i]}`);
    for (const button of node.querySelectorAll("[data-keep]")) button.setAttribute("aria-pressed", String(button.dataset.keep === String(keep)));
  }
  const rejected = data.rows - kept;
  const figures = [
    ["Moments of several photos", whole(moments.length)], ["Photos in them", whole(data.rows)],
    ["Keep", whole(kept)], ["Reject", whole(rejected), share(rejected, data.rows)],
    ["Photos alone in their moment", whole(data.alone)],
  ];
  if (data.failed) figures.push(["Not scored", whole(data.failed)]);
  $("#figures").replaceChildren(...figures.map(([name, value, small]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value, small ? el("small", {}, ` ${small}`) : null))));
  $("#said").textContent = `${plural(kept, "photo")} to keep, ${whole(rejected)} to reject${changed.size ? `; ${plural(changed.size, "decision")} of your own` : ""}.`;
  $("#export").disabled = rejected === 0;
  $("#suggested").disabled = changed.size === 0;
}

function focusOn(place, move = true) {
  current = Math.min(Math.max(place, 0), moments[shown].length - 1);
  mark();
  if (move) stage.children[current].focus();
}

// ---- the list of rejects ----

/** A path as the bytes of its name: those that are no text come as lone surrogates. */
function bytesOf(path) {
  return Array.from(path, (character) => {
    const code = character.codePointAt(0);
    return code >= 0xdc80 && code <= 0xdcff ? new Uint8Array([code - 0xdc00]) : character;
  });
}

/** One path a line; or each ended by a null character, where a name holds a line end. */
function rejects() {
  const paths = [];
  for (let i = 0; i < data.rows; i += 1) if (!isKept(i)) paths.push(pathOf(i));
  const end = paths.some((path) => /[\r\n]/.test(path)) ? "\0" : "\n";
  return new Blob(paths.flatMap((path) => [...bytesOf(path), end]));
}

// ---- keys and buttons ----

/** Zooms so far that a pixel of the current photo is a pixel of the screen, or back. */
function toPixels() {
  const image = $("img", stage.children[current]);
  if (zoom.scale > 1 || !image || !image.naturalWidth) {
    zoom.reset();
    return;
  }
  const fitted = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
  zoom.by(1 / fitted / devicePixelRatio);
}

const keys = {
  ArrowLeft: () => focusOn(current - 1), ArrowRight: () => focusOn(current + 1),
  ArrowUp: () => show(shown - 1), ArrowDown: () => show(shown + 1),
  k: () => decide(moments[shown][current], true), x: () => decide(moments[shown][current], false),
  "+": () => zoom.by(1.5), "=": () => zoom.by(1.5), "-": () => zoom.by(1 / 1.5), 0: () => zoom.reset(), z: toPixels,
};

document.addEventListener("keydown", (event) => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || !moments.length || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  event.preventDefault();
  act();
  if (event.key === "ArrowUp" || event.key === "ArrowDown") focusOn(0);
});
$("#back").addEventListener("click", () => show(shown - 1));
$("#next").addEventListener("click", () => show(shown + 1));
$("#jump").addEventListener("input", () => show(Number($("#jump").value) - 1));
$("#in").addEventListener("click", () => zoom.by(1.5));
$("#out").addEventListener("click", () => zoom.by(1 / 1.5));
$("#pixels").addEventListener("click", toPixels);
stage.addEventListener("dblclick", (event) => { if (event.target.closest(".view")) toPixels(); });
$("#suggested").addEventListener("click", () => {
  for (const i of [...changed]) decide(i, columns.keep[i]);
});
$("#export").addEventListener("click", () => saveAs("rejects.txt", rejects(), "text/plain"));

$("#meta").textContent = data.meta.join(" · ");
$("#moments").hidden = moments.length === 0;
$("#nothing").hidden = moments.length > 0;
$("#jump").max = moments.length;
if (moments.length) show(0);
else mark();
