// The report on two tables of the same images.
"use strict";

const data = JSON.parse($("#data").textContent);
const { pairs, changes, win_rate: winRate, label, ranks } = data;
const tables = data.tables.map((table) => ({ ...table, columns: unpacked(table) }));
const better = label.higher_is_better ? 1 : -1;
const score = (p, side) => tables[side].columns.score[pairs[p][side]];
const scores = pairs.flatMap((_, p) => [score(p, 0), score(p, 1)]);
const { low, high } = axisOf(label, scores);
const decimals = decimalsOf(high - low);
const say = (value) => written(value, decimals);
const pathIn = (table, row) => table.folders[table.columns.folder[row]].name + table.columns.name[row];
const pathOf = (p, side) => pathIn(tables[side], pairs[p][side]);
const nameOf = (p) => tables[0].columns.name[pairs[p][0]];

// Scores of two models may be on different scales: then ranks are shown and counted.
const difference = (p) => (ranks ? `${signed(changes[p], 0)} %` : signed(better * changes[p], decimals));
const meaning = ranks ? "Rank in B minus rank in A, in percent of the images." : "Score in B minus score in A.";
const winner = ranks ? (side) => `${side} ranks higher` : (side) => `${side} scores better`;
/** The position of a pair on a side's axis of the scatter plot. */
const position = (p, side) => (ranks ? ranks[side][p] : score(p, side));

// ---- overview ----

["a", "b"].forEach((side, k) => {
  $(`#name-${side}`).textContent = data.names[k] + (data.models[k] ? ` · scored by ${data.models[k]}` : "");
});
const rate = winRate.win_rate === null ? null : 100 * winRate.win_rate;
const figures = [
  ["Images compared", whole(winRate.n), `by ${data.rule}`],
  [`${winner("B")} in`, rate === null ? "–" : `${rate.toFixed(1)} %`, rate === null ? "" : `${(100 * winRate.win_low).toFixed(1)} to ${(100 * winRate.win_high).toFixed(1)}`],
  ranks
    ? ["Ranks differ by", `${(changes.reduce((sum, change) => sum + Math.abs(change), 0) / winRate.n).toFixed(0)} %`, "on average"]
    : ["Mean of B − A", signed(winRate.mean, decimals), `${signed(winRate.mean_low, decimals)} to ${signed(winRate.mean_high, decimals)}`],
  ["Rank correlation", winRate.srcc === null ? "–" : winRate.srcc.toFixed(3), "SRCC"],
];
$("#figures").append(...termsOf(figures));

const bar = (count, side) => {
  const node = el("span", { className: side });
  node.style.width = `${(100 * count) / winRate.n}%`;
  return node;
};
$("#wins").append(bar(winRate.wins, "b"), bar(winRate.losses, "a"));
const ties = winRate.n - winRate.wins - winRate.losses;
$("#wins-title").textContent = `Where ${winner("B")}`;
$("#wins-text").textContent = `${winner("B")} in ${plural(winRate.wins, "image")}, A in ${whole(winRate.losses)}${ties ? `; ${whole(ties)} ${ranks ? "rank" : "score"} the same` : ""}.`;
$("#note").textContent = (rate === null ? "" : `The share is of the pairs that differ; ${ranks ? "its interval covers" : "intervals cover"} 95 %. `)
  + (ranks ? "The scales of two models may differ, so ranks are compared: 0 % is the worst image, 100 % the best." : "");
$("#unit").textContent = meaning;
$("#side").append(...["b", "a"].map((side) => el("option", { value: side }, winner(side.toUpperCase()))));

// ---- differences ----

const shift = (p) => (ranks ? 1 : better) * changes[p];
const most = Math.max(...changes.map(Math.abs)) || 1;
const reach = axisOf({}, [0, most]);
const differences = { low: -reach.high, high: reach.high, step: reach.high / 2 };
const counts = countsOf(pairs.map((_, p) => shift(p)).filter((value) => value !== 0), differences, 40);
const [less, more] = better > 0 || ranks ? ["a", "b"] : ["b", "a"];
$("#differences-title").textContent = ranks ? "Rank in B minus rank in A" : "Score in B minus score in A";
$("#differences").append(
  el("div", { className: "plot" }, plotOf(
    svg("path", { d: barsOf(counts, 0, 20), class: `bars ${less}` }),
    svg("path", { d: barsOf(counts, 20), class: `bars ${more}` }),
  )),
  ticksOf(differences, (value) => `${signed(Number(value.toPrecision(3)), 6).replace(/\.?0+$/, "")}${ranks ? " %" : ""}`),
);

// ---- scatter ----

const scatter = $("#scatter");
// Fitted to the scores: on the whole scale they would be crowded in a corner.
const axis = ranks ? { low: -4, high: 104 } : axisOf({}, scores);
const [first, last] = ranks ? ["worst", "best"] : [axis.low, axis.high].map((value) => String(Number(value.toPrecision(6))));
$("#scatter-title").textContent = ranks ? "Rank in A and rank in B" : "Score in A and score in B";
const along = (value) => (value - axis.low) / (axis.high - axis.low);

function drawScatter() {
  const canvas = $("canvas", scatter), size = scatter.clientWidth, ratio = devicePixelRatio || 1;
  canvas.width = canvas.height = size * ratio;
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  context.scale(ratio, ratio);
  context.strokeStyle = style.getPropertyValue("--line");
  context.beginPath();
  context.moveTo(0, size);
  context.lineTo(size, 0);
  context.stroke();
  context.globalAlpha = pairs.length > 5000 ? 0.15 : pairs.length > 500 ? 0.35 : 0.6;
  const radius = pairs.length > 5000 ? 1.2 : pairs.length > 500 ? 2 : 3;
  for (let p = 0; p < pairs.length; p += 1) {
    context.fillStyle = style.getPropertyValue(changes[p] > 0 ? "--side-b" : changes[p] < 0 ? "--side-a" : "--quiet");
    context.beginPath();
    context.arc(along(position(p, 0)) * size, (1 - along(position(p, 1))) * size, radius, 0, 7);
    context.fill();
  }
}

for (const [kind, place] of [["x", "left"], ["y", "bottom"]]) {
  for (const [at, text] of [[0, first], [50, kind === "x" ? "A" : "B"], [100, last]]) {
    const node = el("span", { className: kind, "aria-hidden": "true" }, text);
    node.style[place] = `${at}%`;
    node.style.transform = `translate(${kind === "x" ? "-50%, 0" : "0, 50%"})`;
    scatter.append(node);
  }
}
const mark = el("span", { className: "mark", hidden: true });
scatter.append(mark);

/** The pair nearest to the pointer in the scatter plot, within a few pixels. */
function nearest(event) {
  const box = scatter.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = 1 - (event.clientY - box.top) / box.height;
  let best = null, least = (14 / box.width) ** 2;
  for (let p = 0; p < pairs.length; p += 1) {
    const d = (along(position(p, 0)) - x) ** 2 + (along(position(p, 1)) - y) ** 2;
    if (d < least) [best, least] = [p, d];
  }
  return best;
}
scatter.addEventListener("pointermove", (event) => {
  const p = nearest(event);
  mark.hidden = p === null;
  scatter.style.cursor = p === null ? "" : "pointer";
  if (p === null) return;
  scatter.title = `${nameOf(p)}: ${say(score(p, 0))} and ${say(score(p, 1))}`;
  mark.style.left = `${100 * along(position(p, 0))}%`;
  mark.style.top = `${100 * (1 - along(position(p, 1)))}%`;
});
scatter.addEventListener("pointerleave", () => { mark.hidden = true; });
scatter.addEventListener("click", (event) => {
  const p = nearest(event);
  if (p === null) return;
  if (!chosen.includes(p)) { $("#search").value = ""; $("#side").value = "all"; select(); }
  detail.open(p, chosen);
});
new ResizeObserver(drawScatter).observe(scatter);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawScatter);

// ---- gallery ----

let chosen = [];
const photosOf = (p, side) => {
  const table = tables[side], row = pairs[p][side];
  return urlsOf(table.folders[table.columns.folder[row]], table.columns.name[row], data.thumbnails[side][row]);
};
const sideOf = (p) => (changes[p] > 0 ? "b" : changes[p] < 0 ? "a" : "");
const gallery = new Gallery({
  grid: $("#grid"), more: $("#more"), open: (place) => detail.open(chosen[place], chosen),
  card(place) {
    const p = chosen[place];
    const sides = data.same_files ? [0] : [0, 1];
    return { title: pathOf(p, 0), pictures: sides.map((side) => preview(photosOf(p, side))), name: nameOf(p), score: difference(p), kind: `pair ${sideOf(p)}` };
  },
});
const detail = new Detail($("#detail"), {
  say, label, onclose: (p) => gallery.focus(chosen.indexOf(p)),
  describe(p) {
    const facts = [0, 1].map((side) => ["AB"[side], say(score(p, side)) + (ranks ? `, rank ${ranks[side][p].toFixed(0)} %` : "")]);
    if (data.same_files) facts.push(["Path", pathOf(p, 0)]);
    else facts.push(["Path in A", pathOf(p, 0)], ["Path in B", pathOf(p, 1)]);
    const photos = (data.same_files ? [0] : [0, 1]).map((side) => ({
      urls: photosOf(p, side), alt: `Photo ${nameOf(p)}${data.same_files ? "" : side ? ", B" : ", A"}`,
      caption: data.same_files ? null : `${side ? "B" : "A"}: ${say(score(p, side))}`,
    }));
    return { name: nameOf(p), score: difference(p), sentence: meaning, facts, photos };
  },
});

function select() {
  const text = $("#search").value.toLowerCase(), side = $("#side").value;
  chosen = order.filter((p) => (side === "all" || (side === "b" ? changes[p] > 0 : changes[p] < 0))
    && (!text || pathOf(p, 0).toLowerCase().includes(text) || pathOf(p, 1).toLowerCase().includes(text)));
  $("#shown").textContent = chosen.length === pairs.length ? plural(pairs.length, "image") : `${whole(chosen.length)} of ${plural(pairs.length, "image")}`;
  $("#nothing").hidden = chosen.length > 0;
  $("#export").disabled = chosen.length === 0;
  gallery.fill(chosen.length);
}

// ---- not compared ----

const left = [];
for (const [a, b] of data.unscored) {
  const side = tables[0].errors[a] ? 0 : 1;
  left.push([pathIn(tables[side], [a, b][side]), tables[side].errors[[a, b][side]]]);
}
data.only.forEach((rows, side) => rows.forEach((row) => left.push([pathIn(tables[side], row), `only in ${side ? "B" : "A"}`])));

// ---- startup ----

const order = pairs.map((_, p) => p).sort((p, q) => Math.abs(changes[q]) - Math.abs(changes[p]) || p - q);
$("#left").hidden = left.length === 0;
$("#search").addEventListener("input", select);
$("#side").addEventListener("change", select);
$("#export").addEventListener("click", () => {
  const columns = ["path_a", "path_b", "score_a", "score_b", ranks ? "rank_difference_percent" : "difference"];
  const rows = chosen.map((p) => ({ path_a: pathOf(p, 0), path_b: pathOf(p, 1), score_a: score(p, 0), score_b: score(p, 1), [columns[4]]: shift(p) }));
  saveAs("comparison.csv", csvOf(columns, rows), "text/csv");
});
searchBySlash();
select();
listReasons($("#left-rows"), $("#more-left"), left, (pair) => pair);
