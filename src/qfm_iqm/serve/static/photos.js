// The photos on the page: each is sent separately; their results.
"use strict";

const AT_ONCE = 4;
const items = []; // {id, file, name, url, state: waiting | sending | ok | error, row, asked, map, mapNote, decided}
let facts = null, running = 0, added = 0;
let current = new AbortController(); // for the requests of the photos on the page

// ---- sending ----

function add(files) {
  setChoosing(false);
  for (const file of files) {
    added += 1;
    items.push({ id: added, file, name: file.name || "pasted image", url: URL.createObjectURL(file), state: "waiting" });
  }
  draw();
  work();
}

/** Sends waiting photos, a few at a time. */
function work() {
  while (running < AT_ONCE) {
    const item = items.find((one) => one.state === "waiting");
    if (!item) return;
    running += 1;
    item.state = "sending";
    send(item).finally(() => {
      running -= 1;
      changed(item);
      work();
    });
  }
}

async function send(item) {
  const fail = (sentence, again = false) => Object.assign(item, { state: "error", sentence, again });
  if (facts && item.file.size > facts.limits.file_bytes) {
    fail(`It exceeds the limit of ${facts.limits.file_bytes / 1e6} MB.`);
    return;
  }
  try {
    const body = new FormData();
    body.append("files", item.file, item.name);
    const response = await ask("/v1/score?causes=true", { method: "POST", body, signal: current.signal });
    if (response.status === 401) await meet();
    if (!response.ok) {
      fail(await refusalOf(response), response.status >= 500 || response.status === 401);
      return;
    }
    const [row] = (await response.json()).results;
    if (row.status === "ok") Object.assign(item, { state: "ok", row });
    else fail(row.error);
  } catch {
    fail("The service cannot be reached.", true);
  }
}

// ---- texts ----

const scale = () => {
  const scored = items.filter((item) => item.row).map((item) => item.row.score);
  return axisOf(facts ? facts.label : { minimum: null, maximum: null }, scored);
};
const better = () => (facts && !facts.label.higher_is_better ? -1 : 1);
const say = (score) => {
  const axis = scale();
  return written(score, decimalsOf(axis.high - axis.low));
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

const percentile = (row) => (known(row.percentile) ? `better than ${row.percentile.toFixed(0)} %` : null);
const interval = (row) => (known(row.mos_low) && known(row.mos_high) ? `${say(row.mos_low)} to ${say(row.mos_high)}` : null);
