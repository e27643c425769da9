// A grid of cards that grows on request and is navigated by arrow keys. Shared by both reports.
"use strict";

const PAGE = 60;

/** Escapes a file name for a URL; bytes that are not valid text are given as lone surrogates. */
function urlPath(name) {
  return Array.from(name, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return `%${(code - 0xdc00).toString(16).toUpperCase()}`;
    return code >= 0xd800 && code <= 0xdfff ? "%EF%BF%BD" : encodeURIComponent(character);
  }).join("");
}

/** The URLs of an image: the photo's file, then the thumbnail in the report. */
function urlsOf(folder, name, thumbnail) {
  const urls = [{ href: folder.url + urlPath(name) }];
  if (thumbnail) {
    urls.push({ href: `data:image/webp;base64,${thumbnail}`, note: "The file itself cannot be shown here: this is the report's thumbnail of it." });
  }
  return urls;
}

/** The picture of a card: the thumbnail if there is one, or else the photo. */
function preview(urls) {
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", draggable: false });
  showFirst(image, [...urls].reverse(), () => image.replaceWith(el("span", { className: "none" }, "No preview")));
  return image;
}

/** Makes the key / focus the search field. */
function searchBySlash() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select") || $("#detail").open) return;
    event.preventDefault();
    $("#search").focus();
  });
}

class Gallery {
  /** `card(place)` returns {title, below, pictures, name, score, kind}. */
  constructor({ grid, more, card, open }) {
    Object.assign(this, { grid, more, card, open, count: 0, visible: 0 });
    grid.addEventListener("keydown", (event) => this.move(event));
    more.addEventListener("click", () => {
      const place = this.visible;
      this.grow();
      this.focus(place);
    });
  }

  /** Starts over with `count` cards; `keep` shows as many as before. */
  fill(count, keep = false) {
    const first = keep ? Math.max(PAGE, this.visible) : PAGE;
    Object.assign(this, { count, visible: 0 });
    this.grid.replaceChildren();
    this.grow(first);
  }

  grow(by = PAGE) {
    const cards = document.createDocumentFragment();
    for (const until = Math.min(this.count, this.visible + by); this.visible < until; this.visible += 1) {
      const place = this.visible, { title, below, pictures, name, score, kind = "" } = this.card(place);
      cards.append(el("li", {}, el(
        "button", {
          type: "button", className: `card${below ? " below" : ""} ${kind}`, tabIndex: place === 0 ? 0 : -1,
          title, "data-place": place, onclick: () => this.open(place),
        },
        el("span", { className: "picture" }, ...pictures),
        el("span", { className: "caption" }, el("span", { className: "name" }, name), el("span", { className: "score" }, score)),
      )));
    }
    this.grid.append(cards);
    this.more.parentElement.hidden = this.visible >= this.count;
  }

  /** Marks the cards on the page that are below the threshold. */
  mark(isBelow) {
    for (const card of this.grid.querySelectorAll(".card")) card.classList.toggle("below", isBelow(Number(card.dataset.place)));
  }

  focus(place) {
    while (place >= this.visible && this.visible < this.count) this.grow();
    const target = $(`[data-place="${place}"]`, this.grid);
    if (!target) return;
    const current = $('[tabindex="0"]', this.grid);
    if (current) current.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
  }

  move(event) {
    const place = Number(event.target.dataset.place);
    if (Number.isNaN(place)) return;
    const perRow = getComputedStyle(this.grid).gridTemplateColumns.split(" ").length;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow, Home: -place, End: this.visible - 1 - place }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    if (place + by >= 0 && place + by < this.count) this.focus(place + by);
  }
}
