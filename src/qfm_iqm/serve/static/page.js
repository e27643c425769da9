// The page for people: drop, paste or choose photos; each is sent by itself, and shown as it comes.
"use strict";

const AT_ONCE = 4;
const items = []; // {id, file, name, url, state: waiting | sending | ok | error, row, map}
let facts = null, comparing = false, running = 0;
const picked = [];

// ---- talking to the service ----

const tokenOf = () => sessionStorage.getItem("token");

/** A request that waits and tries again where the service has too much to do. */
async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (tokenOf()) headers.Authorization = `Bearer ${tokenOf()}`;
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 429) return response;
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("Retry-After") || 1)));
  }
}

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
  facts = await response.json();
  const { label } = facts;
  const ends = label.minimum === null || label.maximum === null ? "" : `, ${label.minimum} to ${label.maximum}`;
  $("#model").textContent = `Model ${facts.name} · ${label.name}${ends}, ${label.higher_is_better ? "higher" : "lower"} is better`;
}

$("#login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("#token").value);
  meet();
});

// ---- adding photos ----

function add(files) {
  for (const file of files) {
    items.push({ id: items.length, file, name: file.name || "pasted image", url: URL.createObjectURL(file), state: "waiting" });
  }
  draw();
  work();
}

/** Sends what waits, a few at a time. */
function work() {
  while (running < AT_ONCE) {
    const item = items.find((one) => one.state === "waiting");
    if (!item) return;
    running += 1;
    item.state = "sending";
    send(item).finally(() => {
      running -= 1;
      draw();
      work();
    });
  }
}

async function send(item) {
  const fail = (sentence, again = false) => Object.assign(item, { state: "error", sentence, again });
  if (facts && item.file.size > facts.limits.file_bytes) {
    fail(`It has more than the ${facts.limits.file_bytes / 1e6} MB that are allowed.`);
    return;
  }
  try {
    const body = new FormData();
    body.append("files", item.file, item.name);
    const response = await ask("/v1/score", { method: "POST", body });
    if (response.status === 401) await meet();
    const answer = await response.json();
    const row = answer.results && answer.results[0];
    if (row && row.status === "ok") Object.assign(item, { state: "ok", row });
    else fail((row && row.error) || answer.error || "The service gave no score.", response.status >= 500 || response.status === 401);
  } catch {
    fail("The service cannot be reached.", true);
  }
}

// ---- showing them ----

const scale = () => {
  const scored = items.filter((item) => item.row).map((item) => item.row.score);
  return axisOf(facts ? facts.label : { minimum: null, maximum: null }, scored);
};
const better = () => (facts && !facts.label.higher_is_better ? -1 : 1);
const say = (score) => {
  const axis = scale();
  return score.toFixed(decimalsOf(axis.high - axis.low));
};

function ordered() {
  const order = $("#order").value;
  if (order === "added") return [...items];
  const value = (item) => (item.row ? better() * item.row.score : Infinity);
  return [...items].sort((a, b) => {
    if (!a.row || !b.row) return Boolean(b.row) - Boolean(a.row) || a.id - b.id;
    return (order === "worst" ? 1 : -1) * (value(a) - value(b)) || a.id - b.id;
  });
}

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
  const grid = $("#grid");
  ordered().forEach((item, place) => {
    if (!cards.has(item.id)) cards.set(item.id, makeCard(item));
    const card = cards.get(item.id);
    update(card, item);
    if (grid.children[place] !== card.item) grid.insertBefore(card.item, grid.children[place] || null);
  });
}

function makeCard(item) {
  const image = el("img", { alt: "", decoding: "async", draggable: false });
  const picture = el("span", { className: "picture" }, image);
  image.addEventListener("error", () => picture.replaceChildren(el("span", { className: "none" }, "No preview")));
  image.src = item.url;
  const caption = el("span", { className: "caption" });
  const button = el("button", { type: "button", className: "card", onclick: () => press(item) }, picture, caption);
  return { item: el("li", {}, button), button, caption, shown: "" };
}

function update(card, item) {
  const { row } = item;
  const state = JSON.stringify([item.state, item.sentence, row && say(row.score), comparing, picked.includes(item)]);
  if (card.shown === state) return;
  card.shown = state;
  card.button.className = `card ${item.state === "error" ? "error" : item.state === "ok" ? "" : "waiting"}`;
  card.button.title = item.name;
  if (comparing) card.button.setAttribute("aria-pressed", String(picked.includes(item)));
  else card.button.removeAttribute("aria-pressed");
  const parts = [el("span", { className: "name" }, item.name)];
  if (row) {
    const axis = scale(), meter = el("span", { className: "meter", "aria-hidden": "true" }, el("span"));
    meter.firstChild.style.width = `${(100 * (row.score - axis.low)) / (axis.high - axis.low)}%`;
    parts.push(el("span", { className: "score" }, say(row.score)), meter);
    const about = [percentile(row), interval(row)].filter(Boolean);
    parts.push(...about.map((text) => el("span", { className: "more-text" }, text)));
  } else if (item.state === "error") {
    parts.push(el("span", { className: "score" }, "–"), el("span", { className: "more-text" }, reasonOf(item)));
    if (item.again) parts.push(el("span", { className: "more-text" }, "Press to try again."));
  } else {
    parts.push(el("span", { className: "pulse", "aria-hidden": "true" }), el("span", { className: "unseen" }, "being scored"));
  }
  card.caption.replaceChildren(...parts);
}

/** Why there is no score, without the name that stands beside it. */
const reasonOf = (item) => item.sentence.replace(/^cannot read (['"]).*?\1: /, "");
const known = (value) => value !== null && value !== undefined;
const percentile = (row) => (known(row.percentile) ? `better than ${row.percentile.toFixed(0)} %` : null);
const interval = (row) => (known(row.low) && known(row.high) ? `${say(row.low)} to ${say(row.high)}` : null);

function press(item) {
  if (item.state === "error" && item.again) {
    item.state = "waiting";
    draw();
    work();
  } else if (comparing) pick(item);
  else detail.open(ordered().indexOf(item));
}

// ---- one photo, with its map; two photos ----

let pair = null;

function factsOf(item) {
  const { row } = item;
  if (!row) return [["State", item.state === "error" ? reasonOf(item) : "being scored"]];
  return [
    ["Percentile", percentile(row)],
    ["90 % interval", interval(row)],
    ["Spread over crops", known(row.spread) ? say(row.spread) : null],
    ["Size", known(row.width) ? `${whole(row.width)} × ${whole(row.height)} px` : null],
    ["Unusual image", row.unusual ? "yes: take the score with care" : null],
    ["Model", row.model],
  ];
}

const photoOf = (item, caption) => ({ urls: [{ href: item.url }], alt: `Photo ${item.name}`, caption });

function describe(place) {
  if (pair) {
    const [a, b] = pair, change = b.row.score - a.row.score;
    return {
      name: "Two photos", score: `${change > 0 ? "+" : change < 0 ? "−" : ""}${say(Math.abs(change))}`, below: false,
      facts: [["Left", `${a.name}: ${say(a.row.score)}`], ["Right", `${b.name}: ${say(b.row.score)}`],
        ["Better", change === 0 ? "neither" : better() * change > 0 ? "right" : "left"]],
      photos: pair.map((item) => photoOf(item, `${item.name}: ${say(item.row.score)}`)),
    };
  }
  const item = ordered()[place];
  if (item.row && !item.map && !item.asked) drawMapOf(item);
  return {
    name: item.name, score: item.row ? say(item.row.score) : "–", below: false, facts: factsOf(item),
    photos: [photoOf(item)], map: item.map, note: item.row && item.asked && !item.map ? item.mapNote || "The quality map is being drawn …" : "",
  };
}

async function drawMapOf(item) {
  item.asked = true;
  try {
    const response = await ask("/v1/map", { method: "POST", body: item.file, headers: { "Content-Type": "application/octet-stream" } });
    const answer = await response.json();
    if (response.ok) item.map = answer;
    else item.mapNote = answer.error;
  } catch {
    item.asked = false;
    item.mapNote = "The quality map could not be drawn: the service cannot be reached.";
  }
  if ($("#detail").open && !pair && ordered()[detail.index] === item) detail.show(detail.index);
}

const detail = new Detail($("#detail"), {
  describe, count: () => (pair ? 1 : items.length),
  onclose(place) {
    const item = pair ? pair[0] : ordered()[place];
    pair = null;
    if (item && cards.has(item.id)) cards.get(item.id).button.focus();
  },
});

function setComparing(on) {
  comparing = on;
  picked.length = 0;
  $("#compare").setAttribute("aria-pressed", String(on));
  $("#hint").hidden = !on;
  $("#hint").textContent = "Pick two photos to see them side by side.";
  draw();
}

function pick(item) {
  if (!item.row) return;
  const at = picked.indexOf(item);
  if (at >= 0) picked.splice(at, 1);
  else picked.push(item);
  if (picked.length === 2) {
    pair = [...picked];
    setComparing(false);
    detail.higherIsBetter = better() > 0;
    detail.open(0);
    return;
  }
  draw();
}

// ---- beginning ----

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
$("#clear").addEventListener("click", () => {
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
