// Photos of one moment side by side, to keep or to reject. Shared by the page of `qfm cull` and the service's.
"use strict";

/**
 * Shows one moment at a time in the markup of `choosing.html`, all its photos at the same zoom.
 *
 * `fill` takes {photos, alone, failed, say, store}. `photos` are [{name, path, moment, rank, keep,
 * reason, duplicate, score, taken, urls}], moment after moment and by rank; `urls()` returns the URLs
 * of a photo, best first. `alone` and `failed` count photos that are not shown. `store` keeps the
 * indices of the photos whose decision differs from the suggestion: `read()` returns them, and
 * `write(places)` stores them.
 */
class Moments {
  constructor(root) {
    Object.assign(this, { root, stage: $("#stage"), photos: [], moments: [], changed: new Set(), shown: 0, current: 0 });
    this.zoom = new Zoom(this.stage, ({ scale }) => {
      $("#scale").textContent = scale === 1 ? "fitted" : `${scale.toFixed(1)} ×`;
      $("#in").disabled = scale >= MOST_ZOOM;
      $("#out").disabled = scale <= 1;
      $("#pixels").setAttribute("aria-pressed", String(scale > 1));
    });
    this.listen();
  }

  fill({ photos, alone = 0, failed = 0, say = (score) => written(score, 1), store }) {
    Object.assign(this, { photos, alone, failed, say, store, changed: new Set(store.read()), moments: [] });
    photos.forEach(({ moment }, i) => {
      if (i === 0 || moment !== photos[i - 1].moment) this.moments.push([]);
      this.moments.at(-1).push(i);
    });
    $("#moments").hidden = this.moments.length === 0;
    $("#nothing").hidden = this.moments.length > 0;
    $("#jump").max = this.moments.length;
    this.stage.replaceChildren();
    if (this.moments.length) this.show(0);
    else this.mark();
  }

  // ---- decisions that differ from the suggestion ----

  isKept(i) {
    return this.photos[i].keep !== this.changed.has(i);
  }

  decide(i, keep) {
    if (this.isKept(i) !== keep) this.changed[this.changed.has(i) ? "delete" : "add"](i);
    this.store.write([...this.changed]);
    this.mark();
  }

  /** One path per line; null-terminated paths if a name contains a line break. */
  rejects() {
    const paths = this.photos.filter((_, i) => !this.isKept(i)).map(({ path }) => path);
    const end = paths.some((path) => /[\r\n]/.test(path)) ? "\0" : "\n";
    return new Blob(paths.flatMap((path) => [...bytesOf(path), end]));
  }

  // ---- one moment ----

  /** A photo that can be moved in its view, and a note if a fallback is shown in its place. */
  picture(photo) {
    const image = el("img", { alt: `Photo ${photo.name}`, draggable: false, decoding: "async" });
    const note = el("p", { className: "note" });
    showFirst(
      image, photo.urls(), () => image.replaceWith(el("span", { className: "none" }, "This photo cannot be shown here.")),
      (url) => { note.textContent = url.note ?? ""; },
    );
    return [image, note];
  }

  pane(i) {
    const photo = this.photos[i], { name, path, rank, reason, score } = photo;
    const choice = (keep, text) => el("button", { type: "button", className: "button", "data-keep": String(keep), tabIndex: -1, onclick: () => this.decide(i, keep) }, text);
    const [image, note] = this.picture(photo);
    const kind = { exact: "exact duplicate · ", near: "near duplicate · " }[photo.duplicate] ?? "";
    return el(
      "div", { className: "pane", role: "group", "data-row": i, onclick: () => this.focusOn(this.moments[this.shown].indexOf(i), false) },
      el("div", { className: "view" }, image),
      el("div", { className: "words" },
        el("p", { className: "line" }, el("span", { className: "name", title: path }, name), el("span", { className: "score" }, this.say(score))),
        note, el("p", {}, `${rank}. ${kind}${reason}`)),
      el("div", { className: "choice" }, choice(true, "Keep"), choice(false, "Reject")),
    );
  }

  show(place) {
    this.shown = Math.min(Math.max(place, 0), this.moments.length - 1);
    this.current = 0;
    const { stage, shown, moments } = this, rows = moments[shown];
    const few = rows.length <= 4;
    stage.style.setProperty("--least", few ? `${90 / Math.max(rows.length, 2)}vw` : "18rem");
    stage.style.setProperty("--tall", few ? "56vh" : "32vh");
    if (matchMedia("(max-width: 46rem)").matches) stage.style.setProperty("--least", "100%");
    stage.replaceChildren(...rows.map((i) => this.pane(i)));
    this.zoom.reset();
    const [taken] = rows.map((i) => this.photos[i].taken).filter(Boolean).sort();
    $("#moment-title").textContent = `Moment ${whole(shown + 1)} of ${whole(moments.length)}: ${plural(rows.length, "photo")}${taken ? `, ${taken.slice(0, 19).replace("T", " ")}` : ""}`;
    $("#jump").value = shown + 1;
    $("#jump").setAttribute("aria-valuetext", `Moment ${shown + 1} of ${moments.length}`);
    $("#back").disabled = shown === 0;
    $("#next").disabled = shown === moments.length - 1;
    this.mark();
    this.ahead(shown + 1);
  }

  /** Makes the browser load the photos of the next moment. */
  ahead(place) {
    for (const i of (this.moments[place] ?? []).slice(0, 8)) new Image().src = this.photos[i].urls()[0].href;
  }

  /** Shows the decisions, on every pane and in total. */
  mark() {
    const count = this.photos.length;
    let kept = 0;
    for (let i = 0; i < count; i += 1) kept += this.isKept(i);
    for (const [place, node] of [...this.stage.children].entries()) {
      const i = Number(node.dataset.row), keep = this.isKept(i), { name, reason } = this.photos[i];
      node.classList.toggle("keep", keep);
      node.classList.toggle("reject", !keep);
      node.classList.toggle("current", place === this.current);
      node.tabIndex = place === this.current ? 0 : -1;
      node.setAttribute("aria-label", `${name}: ${keep ? "keep" : "reject"}, ${reason}`);
      for (const button of node.querySelectorAll("[data-keep]")) button.setAttribute("aria-pressed", String(button.dataset.keep === String(keep)));
    }
    const rejected = count - kept, { size } = this.changed;
    const figures = [
      ["Moments of several photos", whole(this.moments.length)], ["Photos in them", whole(count)],
      ["Keep", whole(kept)], ["Reject", whole(rejected), share(rejected, count)],
      ["Photos alone in their moment", whole(this.alone)],
    ];
    if (this.failed) figures.push(["Not scored", whole(this.failed)]);
    $("#figures").replaceChildren(...termsOf(figures));
    $("#said").textContent = `${plural(kept, "photo")} to keep, ${whole(rejected)} to reject${size ? `; ${plural(size, "decision")} of your own` : ""}.`;
    $("#export").disabled = rejected === 0;
    $("#suggested").disabled = size === 0;
  }

  focusOn(place, move = true) {
    this.current = Math.min(Math.max(place, 0), this.moments[this.shown].length - 1);
    this.mark();
    if (move) this.stage.children[this.current].focus();
  }

  /** Zooms until a pixel of the current photo is a pixel of the screen, or back. */
  toPixels() {
    const image = $("img", this.stage.children[this.current]);
    if (this.zoom.scale > 1 || !image || !image.naturalWidth) {
      this.zoom.reset();
      return;
    }
    const fitted = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
    this.zoom.by(1 / fitted / devicePixelRatio);
  }

  // ---- keys and buttons ----

  listen() {
    const larger = () => this.zoom.by(1.5), smaller = () => this.zoom.by(1 / 1.5), toPixels = () => this.toPixels();
    const step = (by) => this.show(this.shown + by);
    const choose = (keep) => this.decide(this.moments[this.shown][this.current], keep);
    const keys = {
      ArrowLeft: () => this.focusOn(this.current - 1), ArrowRight: () => this.focusOn(this.current + 1),
      ArrowUp: () => step(-1), ArrowDown: () => step(1), k: () => choose(true), x: () => choose(false),
      "+": larger, "=": larger, "-": smaller, 0: () => this.zoom.reset(), z: toPixels,
    };
    document.addEventListener("keydown", (event) => {
      const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      const asleep = !this.moments.length || this.root.closest("[hidden]");
      // On the slider, left and right move it.
      const typing = event.target.matches("input:not([type=range])") || (event.target.matches("input") && /Left|Right/.test(event.key));
      if (!act || asleep || event.ctrlKey || event.metaKey || event.altKey || typing) return;
      event.preventDefault();
      act();
      if (event.key === "ArrowUp" || event.key === "ArrowDown") this.focusOn(0);
    });
    this.stage.addEventListener("dblclick", (event) => { if (event.target.closest(".view")) toPixels(); });
    $("#jump").addEventListener("input", () => this.show(Number($("#jump").value) - 1));
    const pressed = {
      back: () => step(-1), next: () => step(1), in: larger, out: smaller, pixels: toPixels,
      suggested: () => { for (const i of [...this.changed]) this.decide(i, this.photos[i].keep); },
      export: () => saveAs("rejects.txt", this.rejects(), "text/plain"),
    };
    for (const [id, act] of Object.entries(pressed)) $(`#${id}`).addEventListener("click", act);
  }
}

/** The bytes of a path; those that are not valid text are given as lone surrogates. */
function bytesOf(path) {
  return Array.from(path, (character) => {
    const code = character.codePointAt(0);
    return code >= 0xdc80 && code <= 0xdcff ? new Uint8Array([code - 0xdc00]) : character;
  });
}
