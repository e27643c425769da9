// A table of scores in a report's data. Shared by both reports.
"use strict";

/** Unpacks columns: {all} stands for one value in all rows, {values, codes} for few values. */
function unpacked({ columns, rows }) {
  const values = (column) => {
    if (Array.isArray(column)) return column;
    if ("all" in column) return new Array(rows).fill(column.all);
    return column.codes.map((code) => column.values[code]);
  };
  return Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, values(column)]));
}

/** The common parent of folders, with its slash. */
function commonFolder(names) {
  const first = names[0] ?? "";
  let cut = names.length > 1 ? first.length : 0;
  for (const name of names) while (!name.startsWith(first.slice(0, cut))) cut = first.lastIndexOf("/", cut - 2) + 1;
  return first.slice(0, cut);
}

/** Lists files without a score, a hundred at a time; `tell(item)` returns path and reason. */
function listReasons(body, more, items, tell) {
  let shown = 0;
  // Explicit roles, because on phones the cells are stacked and would lose theirs.
  const cell = (text) => el("td", { className: "name", role: "cell" }, text);
  const grow = () => {
    for (const item of items.slice(shown, shown + 100)) {
      const [path, sentence] = tell(item);
      body.append(el("tr", { role: "row" }, cell(path), cell(reasonOf(sentence))));
    }
    shown += 100;
    more.parentElement.hidden = shown >= items.length;
  };
  more.addEventListener("click", grow);
  grow();
}
