// The dialog of one image, or of two side by side: photo, quality map, facts. Shared by report and service.
"use strict";

/**
 * The facts of one row: [title, value, help]. `words` describes the columns, `valueOf(name)` returns
 * the row's value, and `say` formats a number in the units of the scores.
 */
function factsOf(words, valueOf, say) {
  const writers = { float: say, int: whole, bool: (value) => (value ? "yes" : "no"), str: String };
  return words.map(({ name, title, kind, help }) => {
    const own = valueOf(name), isColumn = words.some((column) => column.name === own);
    const value = name.endsWith("cause") && isColumn ? causeInWords(own, valueOf(own)) : own;
    return [title, known(value) && value !== "" ? writers[kind](value) : null, help];
  });
}

/**
 * Shows one item at a time from a list that the user can step through. The list is that of the
 * dialog's opening: later changes of the page do not affect it.
 *
 * `describe(item)` returns {name, score, words, below, facts: [[name, value, help]], sentence, note,
 * curve, photos: [{urls, alt, caption, map}]}. `curve` is an element shown above the facts. `urls`
 * are tried in order until one loads; the last ones are fallbacks. `words` is true if `score` is text
 * instead of a score. `say` formats a score.
 */
class Detail {
  constructor(dialog, { describe, say, label = { higher_is_better: true }, onclose = () => {} }) {
    Object.assign(this, { dialog, describe, say, label, list: [], withMap: false });
    this.body = el("div", { className: "one" });
    this.close = el("button", { type: "button", className: "button close", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
    this.status = el("p", { className: "unseen", role: "status" });
    dialog.append(this.body, this.close, this.status);
    dialog.addEventListener("close", () => onclose(this.item));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select")) return;
      if (event.key === "ArrowRight" || event.key === "ArrowDown") this.step(1);
      else if (event.key === "ArrowLeft" || event.key === "ArrowUp") this.step(-1);
      else if (event.key.toLowerCase() === "m" && !event.ctrlKey && !event.metaKey) this.toggleMap();
      else return;
      event.preventDefault();
    });
  }

  open(item, list) {
    this.list = [...list];
    this.show(item);
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** Redraws the open item after a change. */
  refresh() {
    if (this.dialog.open) this.show(this.item);
  }

  step(by) {
    const item = this.list[this.list.indexOf(this.item) + by];
    if (item !== undefined) this.show(item);
  }

  toggleMap() {
    const button = $(".map-switch", this.body);
    if (!button) return;
    this.withMap = !this.withMap;
    button.setAttribute("aria-pressed", String(this.withMap));
    for (const canvas of this.body.querySelectorAll("canvas")) canvas.hidden = !this.withMap;
    button.focus();
  }

  show(item) {
    this.item = item;
    const view = this.describe(item);
    const held = this.body.contains(document.activeElement) && document.activeElement.dataset.act;
    const maps = view.photos.map((photo) => photo.map).filter(Boolean);
    const span = maps.length ? spanOf(maps) : null;
    const place = this.list.indexOf(item) + 1;
    this.note = el("p", { className: "note" }, view.note || "");
    this.status.textContent = [`${view.name}: ${view.score}, ${place} of ${this.list.length}.`, view.sentence, view.note].filter(Boolean).join(" ");
    this.body.replaceChildren(
      el("div", { className: "stage" }, ...view.photos.map((photo) => this.picture(photo, span))),
      this.facts(view, span, place),
    );
    if (held !== false) ($(`[data-act="${held}"]:not(:disabled)`, this.body) || this.close).focus();
  }

  facts(view, span, place) {
    const list = el("dl");
    for (const [name, value, help] of view.facts) if (known(value)) list.append(el("dt", { title: help }, name), el("dd", {}, value));
    const button = (act, by, text) => el("button", {
      type: "button", className: "button", disabled: !this.list[place - 1 + by], "data-act": act, onclick: () => this.step(by),
    }, text);
    return el(
      "div", { className: "facts" },
      el("h2", { id: "detail-name" }, view.name),
      el("p", { className: `big${view.words ? " words" : ""}${view.below ? " below-text" : ""}` }, view.score),
      view.sentence ? el("p", { className: "sentence" }, view.sentence) : null,
      view.curve || null,
      view.facts.length ? list : null,
      ...(span ? rampOf(span, this.label, this.say) : []),
      this.note,
      el("div", { className: "row" },
        span ? el("button", {
          type: "button", className: "button map-switch", "data-act": "map", "aria-pressed": String(this.withMap), onclick: () => this.toggleMap(),
        }, "Quality map") : null,
        ...(this.list.length > 1 ? [button("back", -1, "← Previous"), button("next", 1, "Next →")] : [])),
    );
  }

  /** A photo with its map over it; fallbacks are tried if it cannot be shown. */
  picture({ urls, alt, caption, map }, span) {
    const image = el("img", { alt }), { note, status } = this;
    const frame = framed(image);
    const none = () => frame.replaceChildren(el("p", { className: "quiet" }, "This image cannot be shown here."));
    showFirst(image, urls, none, (url) => {
      if (!url.note) return;
      note.textContent = url.note;
      status.append(` ${url.note}`);
    });
    if (map) {
      const canvas = mapCanvas(map, span, this.label.higher_is_better);
      canvas.hidden = !this.withMap;
      image.after(canvas);
    }
    return el("figure", {}, frame, caption ? el("figcaption", {}, caption) : null);
  }
}
