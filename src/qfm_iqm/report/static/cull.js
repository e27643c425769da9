// The page of `qfm cull`: its moments, and the decisions, which the browser stores.
"use strict";

const data = JSON.parse($("#data").textContent);
const columns = unpacked(data);
const STORE = `qfm-cull-${data.id}`;

const store = {
  read() {
    try {
      return JSON.parse(localStorage.getItem(STORE)) ?? [];
    } catch {
      return []; // the browser stores nothing
    }
  },
  write(places) {
    try {
      localStorage.setItem(STORE, JSON.stringify(places));
    } catch {
      // decisions last while the page is open
    }
  },
};

const photos = Array.from({ length: data.rows }, (_, i) => {
  const row = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[i]]));
  const folder = data.folders[row.folder];
  return { ...row, path: folder.name + row.name, urls: () => urlsOf(folder, row.name, data.thumbnails[i]) };
});

document.body.classList.add("choosing");
$("#meta").textContent = data.meta.join(" · ");
new Moments($("#choosing")).fill({ photos, alone: data.alone, failed: data.failed, store });
