// The web page: drop, paste or choose photos; each result is shown as it arrives.
"use strict";

let comparing = false, withMaps = false;
const picked = [];

async function meet() {
  let response;
  try {
    response = await ask("/v1/model");
  } catch {
    $("#model").textContent = "The service cannot be reached.";
    return;
  }
  const shut = response.status === 401;
  $("#login").classList.toggle("hidden", !shut);
  $("#work").hidden = shut;
  if (shut) {
    $("#model").textContent = "";
    if (tokenOf()) $("#login-note").textContent = "That is not the token of this service.";
    return;
  }
  if (!response.ok) {
    $("#model").textContent = await refusalOf(response);
    return;
  }
  facts = await response.json();
  const { label } = facts;
  detail.label = label;
  const ends = label.minimum === null || label.maximum === null ? "" : `, ${label.minimum} to ${label.maximum}`;
  $("#model").textContent = `Model ${facts.name} · ${label.name}${ends}, ${label.higher_is_better ? "higher" : "lower"} is better`;
  draw(); // photos scored before the scale was known
}

$("#login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("#token").value);
  meet();
});

// ---- cards ----

const cards = new Map();

function draw() {
  document.body.classList.toggle("busy", items.length > 0);
  $("#results").hidden = items.length === 0;
  const done = items.filter((item) => item.state === "ok").length;
  const broken = items.filter((item) => item.state === "error").length;
  const open = items.length - done - broken;
  $("#progress").textContent = open
    ? `${whole(done + broken)} of ${plural(items.length, "photo")} done`
    : `${plural(done, "photo")} scored${broken ? `, ${whole(broken)} could not be` : ""}`;
  $("#csv").disabled = $("#json").disabled = done + broken === 0;
  $("#compare").disabled = done < 2;
  $("#groups").disabled = done < 2 || grouping;
  const grid = $("#grid");
  ordered().forEach((item, place) => {
    if (!cards.has(item.id)) cards.set(item.id, makeCard(item));
    const card = cards.get(item.id);
    update(card, item);
    if (grid.children[place] !== card.item) grid.insertBefore(card.item, grid.children[place] || null);
  });
}

/** Redraws a changed photo, on its card and in the dialog if it is open there. */
function changed(item) {
  draw();
  drawMaps();
  if (detail.item === item || (Array.isArray(detail.item) && detail.item.includes(item))) detail.refresh();
}

/** A row's causes, short enough for a card: "cause: blur 30 points", "causes: blur 30, noise 12 points". */
function causesOf(row) {
  if (row.cause === "none") return "cause: none";
  const named = [row.cause, row.second_cause].filter((cause) => cause !== "none");
  const said = named.map((cause) => `${cause} ${Math.round(row[cause])}`);
  return `${said.length > 1 ? "causes" : "cause"}: ${said.join(", ")} points`;
}

function makeCard(item) {
  const image = el("img", { alt: "", decoding: "async", draggable: false });
  const picture = el("span", { className: "picture" }, framed(image));
  image.addEventListener("error", () => picture.replaceChildren(el("span", { className: "none" }, "No preview")));
  image.src = item.url;
  const caption = el("span", { className: "caption" });
  const button = el("button", { type: "button", className: "card", onclick: () => press(item) }, picture, caption);
  return { item: el("li", {}, button), button, caption, image, shown: "" };
}

function update(card, item) {
  const { row } = item;
  const state = JSON.stringify([item.state, item.sentence, row && say(row.score), comparing, picked.includes(item), withMaps && Boolean(item.map)]);
  if (card.shown === state) return;
  card.shown = state;
  card.button.className = `card ${item.state === "error" ? "error" : item.state === "ok" ? "" : "waiting"}`;
  card.button.title = item.name;
  if (comparing) card.button.setAttribute("aria-pressed", String(picked.includes(item)));
  else card.button.removeAttribute("aria-pressed");
  if (card.canvas) card.canvas.remove();
  card.canvas = withMaps && item.map ? mapCanvas(item.map, undefined, better() > 0) : null;
  if (card.canvas) card.image.after(card.canvas);
  const parts = [el("span", { className: "name" }, item.name)];
  if (row) {
    const axis = scale();
    parts.push(el("span", { className: "score" }, say(row.score)), meterOf((row.score - axis.low) / (axis.high - axis.low)));
    const about = [percentile(row), known(row.mos_low) ? `90 %: ${interval(row)}` : null,
      row.cause ? causesOf(row) : null].filter(Boolean);
    parts.push(...about.map((text) => el("span", { className: "more-text" }, text)));
  } else if (item.state === "error") {
    parts.push(el("span", { className: "score" }, "–"), el("span", { className: "more-text" }, reasonOf(item.sentence)));
    if (item.again) parts.push(el("span", { className: "more-text" }, "Press to try again."));
  } else {
    parts.push(el("span", { className: "pulse", "aria-hidden": "true" }), el("span", { className: "unseen" }, "being scored"));
  }
  card.caption.replaceChildren(...parts);
}

function press(item) {
  if (item.state === "error" && item.again) {
    item.state = "waiting";
    draw();
    work();
  } else if (comparing) pick(item);
  else {
    if (item.mapNote) item.asked = false; // it failed: try again
    detail.open(item, ordered());
  }
}

function setComparing(on) {
  comparing = on;
  picked.length = 0;
  $("#compare").setAttribute("aria-pressed", String(on));
  hint(on ? "Pick two photos to see them side by side." : "");
  draw();
}

function pick(item) {
  if (!item.row) return;
  const at = picked.indexOf(item);
  if (at >= 0) picked.splice(at, 1);
  else picked.push(item);
  if (picked.length === 2) {
    const pair = [...picked];
    setComparing(false);
    detail.open(pair, [pair]);
    return;
  }
  draw();
}

// ---- startup ----

const drop = $("#drop"), chooser = $("#files");
$("#choose").addEventListener("click", () => chooser.click());
chooser.addEventListener("change", () => {
  add(chooser.files);
  chooser.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (!$("#work").hidden) add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length && !$("#work").hidden) add(event.clipboardData.files);
});
$("#order").addEventListener("change", draw);
$("#compare").addEventListener("click", () => setComparing(!comparing));
$("#maps").addEventListener("click", () => {
  withMaps = !withMaps;
  $("#maps").setAttribute("aria-pressed", String(withMaps));
  draw();
  drawMaps();
});
$("#clear").addEventListener("click", () => {
  current.abort();
  current = new AbortController();
  for (const item of items) URL.revokeObjectURL(item.url);
  items.length = 0;
  cards.clear();
  $("#grid").replaceChildren();
  setComparing(false);
  $("#choose").focus();
});

const finished = () => items.filter((item) => item.state === "ok" || item.state === "error")
  .map((item) => item.row || { name: item.name, score: null, status: "error", error: item.sentence });
$("#json").addEventListener("click", () => saveAs("scores.json", `${JSON.stringify(finished(), null, 2)}\n`, "application/json"));
$("#csv").addEventListener("click", () => {
  const rows = finished().map(({ name, ...row }) => ({ path: name, ...row }));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => name !== "code");
  saveAs("scores.csv", csvOf(columns, rows), "text/csv");
});
meet();
