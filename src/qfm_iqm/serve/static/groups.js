// The scored photos in groups of one moment, and which of them to keep: shown instead of the cards.
"use strict";

const PART_BYTES = 300; // bytes of a request per file, besides the file's content
const choosing = new Moments($("#choosing"));
let grouping = false, grouped = ""; // ids of the photos whose groups are known

/** Why photos cannot be sent in one request; empty if they can. */
function tooManyFor(chosen) {
  if (!facts) return "";
  const { files, request_bytes: most } = facts.limits;
  const bytes = chosen.reduce((sum, { file }) => sum + file.size + PART_BYTES, 0);
  if (chosen.length <= files && bytes <= most) return "";
  return `Groups can be found in at most ${whole(files)} photos and ${written(most / 1e6, 0)} MB at once, but these are `
    + `${plural(chosen.length, "photo")} and ${written(bytes / 1e6, 0)} MB: clear them and add fewer, or use qfm cull.`;
}

/** Groups the scored photos by moment and shows the groups; unchanged groups are only shown again. */
async function group() {
  const chosen = items.filter((item) => item.state === "ok");
  const asked = chosen.map(({ id }) => id).join();
  setComparing(false);
  const refusal = tooManyFor(chosen);
  if (asked === grouped) setChoosing(true);
  if (asked === grouped || refusal) {
    hint(refusal);
    return;
  }
  const { signal } = current, body = new FormData();
  for (const { file, name } of chosen) body.append("files", file, name);
  grouping = true;
  hint(`Comparing ${plural(chosen.length, "photo")} …`);
  draw();
  try {
    const response = await ask("/v1/cull", { method: "POST", body, signal });
    if (response.status === 401) await meet();
    if (response.ok) {
      fill(chosen, (await response.json()).results);
      grouped = asked;
      hint("");
      setChoosing(true);
    } else hint(await refusalOf(response));
  } catch {
    hint(signal.aborted ? "" : "The service cannot be reached.");
  }
  grouping = false;
  draw();
}

/** Shows the rows of moments with several photos, each with its photo on the page. */
function fill(chosen, rows) {
  const left = [...chosen];
  const take = (row) => {
    const same = left.filter((item) => item.row.sha256 === row.sha256); // names need not differ
    const item = same.find(({ name }) => name === row.name) || same[0];
    left.splice(left.indexOf(item), 1);
    return item;
  };
  const photos = rows.filter((row) => row.photos > 1).map((row) => {
    const item = take(row), { name, url } = item;
    return { ...row, item, name, path: name, urls: () => [{ href: url }] };
  });
  const alone = rows.filter((row) => row.photos === 1).length;
  const failed = rows.filter((row) => row.status === "error").length;
  // A decision stays with its photo, even if other photos change the suggestion.
  const store = {
    read: () => photos.flatMap(({ item, keep }, i) => (known(item.decided) && item.decided !== keep ? [i] : [])),
    write: (places) => photos.forEach(({ item, keep }, i) => { item.decided = places.includes(i) ? !keep : undefined; }),
  };
  choosing.fill({ photos, alone, failed, say, store });
}

/** Shows the groups instead of the cards, or the cards again. */
function setChoosing(on) {
  if (on === !$("#groups-view").hidden) return;
  if (on && detail.dialog.open) detail.dialog.close();
  document.body.classList.toggle("choosing", on);
  $("#groups-view").hidden = !on;
  if (!on) $("#groups").focus();
  else if (choosing.moments.length) choosing.focusOn(choosing.current);
  else $("#cards").focus();
}

/** Shows a sentence above the cards; an empty one hides it. */
function hint(sentence) {
  $("#hint").hidden = !sentence;
  $("#hint").textContent = sentence;
}

$("#groups").addEventListener("click", group);
$("#cards").addEventListener("click", () => setChoosing(false));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") setChoosing(false); });
