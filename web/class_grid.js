/** A grid of classes to choose from, which holds elements for what is in view alone. */

import { say } from "./words.js";

/** @typedef {import("./class_names.js").Classes} Classes */

const WITH_PICTURE = { width: 112, caption: 40 };
const WITHOUT_PICTURE = { width: 168, caption: 44 };
const GAP = 8;
/** Rows kept ready above and below what is in view. */
const SPARE_ROWS = 2;

/** How many options there have ever been: each needs an id of its own on the page. */
let made = 0;

export class ClassGrid {
  /**
   * @param {Classes} classes
   * @param {(id: number, event: MouseEvent | KeyboardEvent) => void} onPick
   * @param {(optionId: string | null) => void} onActive the id of the active option's element
   */
  constructor(classes, onPick, onActive) {
    this.classes = classes;
    this.onPick = onPick;
    this.onActive = onActive;
    /** @type {number[]} */
    this.ids = [];
    /** Place of each chosen class, from 1. @type {Map<number, number>} */
    this.places = new Map();
    this.active = 0;
    this.columns = 1;
    this.prefix = `fitv2-class-option-${made++}`;
    /** Elements in view by place in ``ids``. @type {Map<number, HTMLElement>} */
    this.shown = new Map();
    /** @type {HTMLElement[]} */
    this.spare = [];
    this.frame = 0;
    // In CSS pixels; ``measure`` sets them.
    this.rowHeight = 1;
    this.tileWidth = 1;
    this.pictureHeight = 0;

    this.element = document.createElement("div");
    this.element.className = "fitv2-class-grid";
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "listbox");
    this.element.setAttribute("aria-label", say("Classes"));
    this.space = document.createElement("div");
    this.space.className = "fitv2-class-grid-space";
    this.space.setAttribute("role", "presentation");
    this.element.append(this.space);
    this.element.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    this.element.addEventListener("click", (event) => this.picked(event));
    this.resized = new ResizeObserver(() => this.draw(true));
    this.resized.observe(this.element);
  }

  /** @param {boolean} several */
  set multiple(several) {
    this.element.setAttribute("aria-multiselectable", String(several));
  }

  /**
   * Shows these classes.
   *
   * @param {number[]} ids
   * @param {number} [active] the place of one to bring into the middle of the view
   */
  show(ids, active = 0) {
    this.ids = ids;
    this.active = active;
    this.measure();
    const above = (this.element.clientHeight - this.rowHeight) / 2;
    this.element.scrollTop = Math.floor(active / this.columns) * this.rowHeight - above;
    this.draw(true);
    this.activate(active);
  }

  /** Marks classes as chosen, in this order. @param {number[]} ids */
  choose(ids) {
    this.places = new Map(ids.map((id, at) => [id, at + 1]));
    for (const [index, tile] of this.shown) this.mark(tile, index);
  }

  /** @returns {number | undefined} the class that a key would choose */
  get activeClass() {
    return this.ids[this.active];
  }

  /**
   * Moves as arrows, Home, End and the page keys do.
   *
   * @param {string} key as in ``KeyboardEvent.key``
   * @returns {boolean} whether the key is one that moves
   */
  move(key) {
    const page = this.columns * Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight));
    const last = this.ids.length - 1;
    const target = {
      ArrowLeft: this.active - 1,
      ArrowRight: this.active + 1,
      ArrowUp: this.active - this.columns,
      ArrowDown: this.active + this.columns,
      PageUp: Math.max(0, this.active - page),
      PageDown: Math.min(last, this.active + page),
      Home: 0,
      End: last,
    }[key];
    if (target === undefined) return false;
    if (target >= 0 && target <= last) this.activate(target);
    return true;
  }

  /** @param {number} index place in ``ids`` */
  activate(index) {
    const before = this.active;
    this.active = index;
    const row = Math.floor(index / this.columns);
    const top = GAP + row * this.rowHeight;
    const { scrollTop, clientHeight } = this.element;
    if (top - GAP < scrollTop) this.element.scrollTop = top - GAP;
    const bottom = top + this.rowHeight;
    if (bottom > scrollTop + clientHeight) this.element.scrollTop = bottom - clientHeight;
    this.draw();
    for (const place of [before, index]) {
      const tile = this.shown.get(place);
      if (tile) this.mark(tile, place);
    }
    this.onActive(this.ids.length ? `${this.prefix}-${index}` : null);
  }

  /** Frees what the grid holds. */
  close() {
    this.resized.disconnect();
    cancelAnimationFrame(this.frame);
  }

  drawSoon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  /** Lays the tiles in view out. @param {boolean} [anew] whether all of them may have changed */
  draw(anew = false) {
    if (anew) {
      this.measure();
      for (const tile of this.shown.values()) this.free(tile);
      this.shown.clear();
    }
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - SPARE_ROWS);
    const last = Math.ceil((scrollTop + clientHeight) / this.rowHeight) + SPARE_ROWS;
    const from = first * this.columns;
    const to = Math.min(this.ids.length, last * this.columns);
    for (const [index, tile] of this.shown) {
      if (index >= from && index < to) continue;
      this.free(tile);
      this.shown.delete(index);
    }
    // On the page they stand in the order in which they are read.
    let next = null;
    for (let index = to - 1; index >= from; index--) {
      const tile = this.shown.get(index) ?? this.place(index);
      if (!tile.parentNode || tile.nextSibling !== next) this.space.insertBefore(tile, next);
      next = tile;
    }
  }

  measure() {
    const { sheet } = this.classes;
    const wanted = sheet ? WITH_PICTURE : WITHOUT_PICTURE;
    const width = this.element.clientWidth - GAP;
    this.columns = Math.max(1, Math.floor(width / (wanted.width + GAP)));
    this.tileWidth = width / this.columns - GAP;
    this.pictureHeight = sheet ? this.tileWidth / sheet.ratio : 0;
    this.rowHeight = Math.round(this.pictureHeight + wanted.caption + GAP);
    const rows = Math.ceil(this.ids.length / this.columns);
    this.space.style.height = `${rows * this.rowHeight + GAP}px`;
  }

  /** @param {number} index @returns {HTMLElement} */
  place(index) {
    const tile = this.spare.pop() ?? this.make();
    const id = this.ids[index];
    const x = GAP + (index % this.columns) * (this.tileWidth + GAP);
    const y = GAP + Math.floor(index / this.columns) * this.rowHeight;
    tile.id = `${this.prefix}-${index}`;
    tile.dataset.index = String(index);
    tile.style.transform = `translate(${x}px, ${y}px)`;
    tile.style.width = `${this.tileWidth}px`;
    tile.style.height = `${this.rowHeight - GAP}px`;
    tile.setAttribute("aria-setsize", String(this.ids.length));
    tile.setAttribute("aria-posinset", String(index + 1));
    const [picture, name, number] = /** @type {HTMLElement[]} */ ([...tile.children]);
    picture.style.height = `${this.pictureHeight}px`;
    this.classes.paint(picture, id);
    name.textContent = tile.title = this.classes.nameOf(id);
    number.textContent = String(id);
    this.mark(tile, index);
    this.shown.set(index, tile);
    return tile;
  }

  make() {
    const tile = document.createElement("div");
    tile.className = "fitv2-class-tile";
    tile.setAttribute("role", "option");
    for (const part of ["picture", "name", "number"]) {
      const element = document.createElement("span");
      element.className = `fitv2-class-tile-${part}`;
      tile.append(element);
    }
    return tile;
  }

  /** @param {HTMLElement} tile */
  free(tile) {
    tile.remove();
    this.spare.push(tile);
  }

  /** @param {HTMLElement} tile @param {number} index */
  mark(tile, index) {
    const place = this.places.get(this.ids[index]);
    tile.setAttribute("aria-selected", String(place !== undefined));
    tile.classList.toggle("fitv2-class-active", index === this.active);
    if (place === undefined) delete tile.dataset.place;
    else tile.dataset.place = this.places.size > 1 ? String(place) : "✓";
  }

  /** @param {MouseEvent} event */
  picked(event) {
    const tile = /** @type {Element} */ (event.target).closest(".fitv2-class-tile");
    if (!(tile instanceof HTMLElement)) return;
    const index = Number(tile.dataset.index);
    this.activate(index);
    this.onPick(this.ids[index], event);
  }
}
