// The page of `qfm cull`: its moments, and the decisions, which the browser stores.
"use strict";

const data = JSON.parse($("#data").textContent);
const columns = unpacked(data);
const STORE = `qfm-cull-${data.id}`;

const photos = Array.from({ length: data.rows }, (_, i) => {
  const row = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[i]]));
  const folder = data.folders[row.folder];
  return { ...row, path: folder.name + row.name, urls: () => urlsOf(folder, row.name, data.thumbnails[i]) };
});

// Whether to keep a photo, by its path: a decision stays with its photo, even if the suggestion changes.
const store = {
  read() {
    try {
      const decided = JSON.parse(localStorage.getItem(STORE)) ?? {};
      return photos.flatMap(({ path, keep }, i) => (path in decided && decided[path] !== keep ? [i] : []));
    } catch {
      return []; // the browser stores nothing
    }
  },
  write(places) {
    try {
      localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(places.map((i) => [photos[i].path, !photos[i].keep]))));
    } catch {
      // decisions last while the page is open
    }
  },
};

document.body.classList.add("choosing");
$("#meta").textContent = data.meta.join(" · ");
new Moments($("#choosing")).fill({ photos, alone: data.alone, failed: data.failed, store });
