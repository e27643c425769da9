// One or two photos with their maps in the dialog.
"use strict";

const photoOf = (item, caption) => ({ urls: [{ href: item.url }], alt: `Photo ${item.name}`, caption, map: item.map });

/** A photo as the dialog shows it; its map is requested when it is first opened. */
function describe(item) {
  if (Array.isArray(item)) return describePair(item);
  const photos = [photoOf(item)];
  if (item.state === "error") return { name: item.name, score: "Not scored", words: true, sentence: reasonOf(item.sentence), facts: [], photos };
  if (!item.row) return { name: item.name, score: "Being scored …", words: true, facts: [], photos };
  drawMapOf(item);
  return { name: item.name, score: say(item.row.score), facts: factsOf(facts ? facts.columns : [], (name) => item.row[name], say), photos, note: mapNoteOf(item) };
}

function describePair(pair) {
  pair.forEach(drawMapOf);
  const [left, right] = pair, change = better() * (right.row.score - left.row.score);
  const apart = written(Math.abs(change), decimalsOf(scale().high - scale().low));
  return {
    name: "Two photos", words: true,
    score: Number(apart) === 0 ? "Both are equally good" : `${change > 0 ? "Right" : "Left"} is better by ${apart}`,
    facts: [["Left", `${left.name}: ${say(left.row.score)}`], ["Right", `${right.name}: ${say(right.row.score)}`]],
    photos: pair.map((item) => photoOf(item, `${item.name}: ${say(item.row.score)}`)),
    note: pair.map(mapNoteOf).find(Boolean),
  };
}

const mapNoteOf = (item) => (item.map ? "" : item.mapNote || "The quality map is being drawn …");

/** Requests a scored photo's map, once. */
async function drawMapOf(item) {
  if (item.map || item.asked) return;
  item.asked = true;
  item.mapNote = "";
  try {
    const response = await ask("/v1/map", {
      method: "POST", body: item.file, headers: { "Content-Type": "application/octet-stream" }, signal: current.signal,
    });
    if (response.ok) item.map = await response.json();
    else item.mapNote = await refusalOf(response);
  } catch {
    item.mapNote = "The quality map could not be drawn: the service cannot be reached.";
  }
  changed(item);
}

let drawingMaps = false;

/** Requests the maps of all scored photos, one after another, while the cards show maps. */
async function drawMaps() {
  if (drawingMaps) return;
  drawingMaps = true;
  for (let item; withMaps && (item = items.find((one) => one.row && !one.asked));) await drawMapOf(item);
  drawingMaps = false;
}

const detail = new Detail($("#detail"), {
  describe, say,
  onclose(item) {
    const { button } = cards.get((Array.isArray(item) ? item[0] : item).id) || {};
    if (button) button.focus();
  },
});
