// The report on one table of scores.
"use strict";

const data = JSON.parse($("#data").textContent);
const { label, rows: total } = data;
const columns = unpacked(data);
const better = label.higher_is_better ? 1 : -1;
const axis = axisOf(label, columns.score);
const decimals = decimalsOf(axis.high - axis.low);
const folderOf = (i) => data.folders[columns.folder[i]];
const common = commonFolder(data.folders.map((folder) => folder.name));
const folderName = (folder) => folder.name.slice(common.length) || folder.name || "(no folder)";
const pathOf = (i) => folderOf(i).name + columns.name[i];
const say = (score) => written(score, decimals);

// ---- the scored images, in order of quality ----

const scored = [], failed = [];
for (let i = 0; i < total; i += 1) (columns.score[i] === null ? failed : scored).push(i);
scored.sort((a, b) => better * (columns.score[a] - columns.score[b]) || a - b);
const ascending = Float64Array.from(scored, (i) => columns.score[i]).sort();
const rankOf = new Map(scored.map((i, rank) => [i, rank]));
const worstTenth = ascending[Math.floor(ascending.length * (better > 0 ? 0.1 : 0.9))];
let threshold = data.threshold === null ? firstThreshold() : Number(data.threshold.toFixed(decimals));

/** The worst tenth, rounded to the worse side until no card with exactly this number is beyond it. */
function firstThreshold() {
  const step = 10 ** -decimals;
  let value = (better * Math.floor((better * (worstTenth ?? axis.low)) / step + 1e-6)) * step;
  for (let tries = 0; tries < 10 && below(ascending, value) > below(ascending, value - (better * step) / 2); tries += 1) value -= better * step;
  return Number(value.toFixed(decimals));
}

const isBelow = (i) => columns.score[i] !== null && better * (columns.score[i] - threshold) < 0;

/** How many of these scores are worse than a limit. */
function below(sorted, limit = threshold) {
  if (better > 0) return countBelow(sorted, limit);
  let first = countBelow(sorted, limit);
  while (first < sorted.length && sorted[first] === limit) first += 1;
  return sorted.length - first;
}

function medianOf(sorted) {
  if (!sorted.length) return null;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// ---- overview ----

$("#meta").textContent = data.meta.join(" · ");

function drawFigures() {
  const count = below(ascending);
  const median = medianOf(ascending);
  const figures = [
    ["Images", whole(total)],
    ["Median", median === null ? "–" : say(median)],
    [better > 0 ? "Below threshold" : "Above threshold", whole(count), share(count, ascending.length)],
    ["Not scored", whole(failed.length)],
  ];
  $("#figures").replaceChildren(...termsOf(figures));
  const where = better > 0 ? "below" : "above";
  $("#verdict").replaceChildren(
    el("strong", {}, whole(count)), ` of ${plural(ascending.length, "image")} (${share(count, ascending.length)}) score ${where} ${say(threshold)}`,
  );
}

const histogram = new Histogram($("#histogram"), ascending, axis, decimals, (value) => setThreshold(value));
const thresholdField = $("#threshold");
Object.assign(thresholdField, { min: axis.low, max: axis.high, step: 10 ** -decimals });
thresholdField.addEventListener("change", () => {
  if (thresholdField.value !== "") histogram.set(Number(thresholdField.value));
});

let waiting = 0;
function setThreshold(value) {
  threshold = value;
  thresholdField.value = threshold.toFixed(decimals);
  drawFigures();
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => { drawFolders(); select(false); });
}

/** How often each value occurs, the most frequent first. */
function tallyOf(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

// ---- folders ----

const byFolder = data.folders.map(() => ({ scores: [], failed: 0 }));
for (const i of scored) byFolder[columns.folder[i]].scores.push(columns.score[i]);
for (const i of failed) byFolder[columns.folder[i]].failed += 1;
for (const folder of byFolder) folder.scores = Float64Array.from(folder.scores).sort();

function drawFolders() {
  if (data.folders.length < 2) return;
  const rows = data.folders.map((folder, f) => {
    const { scores, failed: broken } = byFolder[f];
    const count = below(scores), median = medianOf(scores);
    const meter = meterOf(scores.length ? count / scores.length : 0);
    return { folder, f, scores, broken, count, median, meter };
  });
  rows.sort((a, b) => better * ((a.median ?? Infinity * better) - (b.median ?? Infinity * better)) || a.f - b.f);
  $("#folder-rows").replaceChildren(...rows.slice(0, 200).map((row) => el(
    "tr", {},
    el("td", {}, el("button", { type: "button", className: "link", onclick: () => pickFolder(row.f) }, folderName(row.folder))),
    el("td", { className: "number" }, whole(row.scores.length + row.broken)),
    el("td", { className: "number" }, row.median === null ? "–" : say(row.median)),
    el("td", { className: "number" }, whole(row.count), el("span", { className: "wide" }, ` (${share(row.count, row.scores.length)})`), row.meter),
    el("td", { className: "number" }, row.broken ? whole(row.broken) : "–"),
  )));
}

function pickFolder(f) {
  $("#folder").value = String(f);
  select();
  $("#gallery").scrollIntoView();
  $("#folder").focus({ preventScroll: true });
}

// ---- gallery ----

let chosen = [];
const gallery = new Gallery({
  grid: $("#grid"), more: $("#more"), open: (place) => detail.open(chosen[place], chosen),
  card(place) {
    const i = chosen[place];
    const score = columns.score[i] === null ? "–" : say(columns.score[i]);
    return { title: pathOf(i), below: isBelow(i), pictures: [preview(photosOf(i))], name: columns.name[i], score };
  },
});
const photosOf = (i) => urlsOf(folderOf(i), columns.name[i], data.thumbnails[i]);

function select(rewind = true) {
  const text = $("#search").value.toLowerCase(), folder = $("#folder").value, status = $("#status").value, cause = $("#cause").value;
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  const from = number("#from"), to = number("#to");
  const before = chosen, pool = status === "failed" ? failed : scored;
  chosen = pool.filter((i) => {
    if (folder !== "" && columns.folder[i] !== Number(folder)) return false;
    if (status === "below" && !isBelow(i)) return false;
    if (status === "above" && isBelow(i)) return false;
    if (status === "out_of_distribution" && !columns.out_of_distribution[i]) return false;
    if (cause !== "" && columns.cause[i] !== cause) return false;
    if (pool === scored && from !== null && columns.score[i] < from) return false;
    if (pool === scored && to !== null && columns.score[i] > to) return false;
    return !text || pathOf(i).toLowerCase().includes(text);
  });
  const order = $("#order").value;
  if (order === "best") chosen.reverse();
  if (order === "crop_std") chosen.sort((a, b) => (columns.crop_std[b] ?? -1) - (columns.crop_std[a] ?? -1));
  if (order === "name") chosen.sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1));
  const all = pool === scored ? plural(scored.length, "image") : `${plural(failed.length, "image")} without a score`;
  $("#shown").textContent = chosen.length === pool.length ? all : `${whole(chosen.length)} of ${all}`;
  const filtered = chosen.length < pool.length || pool === failed;
  $("#nothing").hidden = chosen.length > 0;
  $("#nothing").firstChild.textContent = filtered ? "No image matches these filters. " : "No image has a score. ";
  $("#reset").hidden = !filtered;
  $("#export").disabled = chosen.length === 0;
  // While the handle moves, remaining cards are not redrawn.
  if (!rewind && chosen.length === before.length && chosen.every((i, place) => i === before[place])) gallery.mark((place) => isBelow(chosen[place]));
  else gallery.fill(chosen.length, !rewind);
}

// ---- one image ----

function describe(i) {
  const rank = rankOf.get(i);
  const facts = [
    ["Rank, worst first", rank === undefined ? null : `${whole(rank + 1)} of ${whole(scored.length)}`],
    ["Folder", folderOf(i).name || "(no folder)"],
    ...factsOf(data.words, (name) => columns[name][i], say),
  ];
  const failure = columns.score[i] === null ? reasonOf(data.errors[i]) : null;
  return {
    name: columns.name[i], score: failure === null ? say(columns.score[i]) : "Not scored", words: failure !== null,
    sentence: failure, below: isBelow(i), facts,
    curve: data.curves[i] ? curveOf(data.curves[i], axis, better > 0, say) : null,
    photos: [{ urls: photosOf(i), alt: `Photo ${columns.name[i]}`, map: data.maps[i] }],
  };
}

const detail = new Detail($("#detail"), { describe, say, label, onclose: (i) => gallery.focus(chosen.indexOf(i)) });

// ---- export ----

function rowOf(i) {
  const row = { path: pathOf(i), error: data.errors[i] ?? "", status: columns.score[i] === null ? "error" : "ok" };
  for (const [name, values] of Object.entries(columns)) if (name !== "folder" && name !== "name") row[name] = values[i];
  return row;
}

function exportSelection() {
  saveAs("selection.csv", csvOf(data.order, chosen.map(rowOf)), "text/csv");
}

// ---- startup ----

const picker = $("#folder");
picker.append(el("option", { value: "" }, "All folders"));
data.folders.forEach((folder, f) => picker.append(el("option", { value: String(f) }, folderName(folder))));
$("#folder-filter").hidden = $("#folders").hidden = data.folders.length < 2;
$("#errors").hidden = failed.length === 0;
$("#overview .panel").hidden = scored.length === 0;
if (!failed.length) $('#status option[value="failed"]').remove();
if (!columns.out_of_distribution) $('#status option[value="out_of_distribution"]').remove();
const causes = columns.cause ? [...tallyOf(scored.map((i) => columns.cause[i]))].filter(([cause]) => cause) : [];
const withCauses = causes.reduce((sum, [, count]) => sum + count, 0);
const causeTexts = causes.map(([cause, count]) => [cause, `${cause} ${share(count, withCauses)}`]);
for (const [cause, text] of causeTexts) $("#cause").append(el("option", { value: cause }, text));
$("#cause-filter").hidden = $("#causes").hidden = causes.length === 0;
$("#causes").textContent = `Main cause of loss: ${causeTexts.map(([, text]) => text).join(", ")}`;
if (!columns.crop_std) $('#order option[value="crop_std"]').remove();
if (better < 0) {
  $('#status option[value="below"]').textContent = "Above threshold (worse)";
  $('#status option[value="above"]').textContent = "At or below threshold";
  $("#folders-below").firstChild.textContent = "Above";
}
for (const id of ["#search", "#from", "#to"]) $(id).addEventListener("input", () => select());
for (const id of ["#folder", "#status", "#cause", "#order"]) $(id).addEventListener("change", () => select());
for (const id of ["#from", "#to"]) $(id).step = 10 ** -decimals;
$("#export").addEventListener("click", exportSelection);
$("#reset").addEventListener("click", () => {
  for (const id of ["#search", "#from", "#to", "#folder", "#cause"]) $(id).value = "";
  $("#status").value = "scored";
  select();
  $("#search").focus();
});
searchBySlash();
histogram.set(threshold);
cancelAnimationFrame(waiting);
drawFolders();
select();
listReasons($("#error-rows"), $("#more-errors"), failed, (i) => [pathOf(i), data.errors[i]]);
