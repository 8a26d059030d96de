/** The grid of a comparison: images in rows and columns, walked with the arrow keys. */

import { element } from "./elements.js";
import { untold } from "./viewer_cells.js";
import { cellOf, headerOf, rowOf } from "./viewer_grid_parts.js";
import { CAPTION_HEIGHT, FITTED, HEADER_HEIGHT, layOut } from "./viewer_layout.js";
import { say } from "./words.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */

/** As many cells are on one page; a row is never cut. */
const CELLS_PER_PAGE = 400;

export class Grid {
  /**
   * @param {{urlOf: (cell: Cell) => string, onPick: (cell: Cell, second: boolean) => void,
   *   onOpen: (cell: Cell) => void, onCurrent: (cell: Cell) => void,
   *   onHover: (cell: Cell | null) => void, onHide: () => void, wasDragged: () => boolean}} on
   */
  constructor(on) {
    this.on = on;
    this.scale = FITTED;
    /** How much larger than fitting into the box. */
    this.size = 1;
    this.page = 0;
    /** @type {Set<number>} */
    this.hiddenRows = new Set();
    /** @type {Set<number>} */
    this.hiddenColumns = new Set();
    /** @type {Comparison} */
    this.comparison = { rows: [], columns: [], cells: [] };
    /** The place that the keyboard is at; -1 is the names of rows or columns. */
    this.at = { row: 0, column: 0 };
    /** Whether rows and columns have names to show. */
    this.named = { rowNames: false, columnNames: false };
    /** @type {Map<string, HTMLElement>} */
    this._places = new Map();
    /** The box that the images have sizes for. */
    this._box = "";
    this.element = element("div", { class: "fitv2-viewer-grid", role: "grid" });
    this.element.setAttribute("aria-label", say("Images of the comparison"));
    this._listen();
  }

  /** @param {Comparison} comparison */
  setComparison(comparison) {
    if (shapeOf(comparison) !== this.shape) {
      this.hiddenRows.clear();
      this.hiddenColumns.clear();
      this.page = 0;
      this.at = { row: 0, column: 0 };
    }
    this.comparison = comparison;
    this.draw();
  }

  /** What choices of rows, columns and cells belong to. */
  get shape() {
    return shapeOf(this.comparison);
  }

  /** The rows that are not hidden, on all pages. */
  get rows() {
    return numbers(this.comparison.cells, "row").filter((row) => !this.hiddenRows.has(row));
  }

  get longestName() {
    return Math.max(0, ...this.comparison.rows.map((name) => name?.length ?? 0));
  }

  get columns() {
    return numbers(this.comparison.cells, "column").filter((c) => !this.hiddenColumns.has(c));
  }

  get rowsPerPage() {
    return Math.max(1, Math.floor(CELLS_PER_PAGE / Math.max(1, this.columns.length)));
  }

  get pages() {
    return Math.max(1, Math.ceil(this.rows.length / this.rowsPerPage));
  }

  get rowsOfPage() {
    const first = this.page * this.rowsPerPage;
    return this.rows.slice(first, first + this.rowsPerPage);
  }

  /** The cells that are not hidden. */
  get cells() {
    return this.comparison.cells.filter(
      ({ row, column }) => !this.hiddenRows.has(row) && !this.hiddenColumns.has(column),
    );
  }

  /** @returns {Cell | undefined} */
  get current() {
    return this.cellAt(this.at.row, this.at.column);
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  cellAt(row, column) {
    return this.comparison.cells.find((cell) => cell.row === row && cell.column === column);
  }

  /** Makes the elements anew: after another comparison, page, or choice of rows and columns. */
  draw() {
    const hadFocus = this.element.contains(document.activeElement);
    this.page = Math.min(this.page, this.pages - 1);
    this._places.clear();
    const columns = this.columns;
    const rows = this.rowsOfPage;
    const keys = untold(this.cells);
    this.named = {
      rowNames: this.rows.length + this.hiddenRows.size > 1 && this.comparison.rows.some(Boolean),
      columnNames: this.comparison.columns.some(Boolean),
    };
    const drawn = [];
    if (this.named.columnNames) {
      const corner = this.named.rowNames ? [element("span", { role: "presentation" })] : [];
      drawn.push(rowOf([...corner, ...columns.map((column) => this._header(-1, column))]));
    }
    for (const row of rows) {
      const cells = columns.map((column) => this._cell(row, column, keys));
      drawn.push(rowOf(this.named.rowNames ? [this._header(row, -1), ...cells] : cells));
    }
    this.element.replaceChildren(...drawn);
    this.element.setAttribute("aria-rowcount", String(this.rows.length));
    this.element.setAttribute("aria-colcount", String(columns.length));
    this.at = { row: nearest(rows, this.at.row), column: nearest(columns, this.at.column) };
    const place = this._places.get(key(this.at));
    place?.setAttribute("tabindex", "0");
    this.layOut();
    if (hadFocus) place?.focus({ preventScroll: true });
  }

  /**
   * @param {number} row -1 for the name of a column
   * @param {number} column -1 for that of a row
   */
  _header(row, column) {
    return this._put({ row, column }, headerOf(this.comparison, row, column));
  }

  /**
   * @param {number} row
   * @param {number} column
   * @param {Set<any>} keys the settings that its caption tells
   */
  _cell(row, column, keys) {
    const cell = this.cellAt(row, column);
    if (!cell) return element("div", { role: "gridcell", class: "fitv2-viewer-cell" });
    return this._put(cell, cellOf(this.comparison, cell, keys, this.on.urlOf(cell)));
  }

  /**
   * @param {{row: number, column: number}} place
   * @param {HTMLElement} made
   */
  _put(place, made) {
    made.dataset.place = key(place);
    this._places.set(key(place), made);
    return made;
  }

  /** Gives every image its size. */
  layOut() {
    const { clientWidth: width, clientHeight: height, style, classList } = this.element;
    const rows = this.rowsOfPage;
    this._box = boxOf(this.element);
    if (!width || !height || !rows.length || !this.columns.length) return;
    const { widths, heights, header, captions, frames } = layOut(
      this.cells,
      rows,
      this.columns,
      { width, height },
      { scale: this.scale, size: this.size, longestName: this.longestName, ...this.named },
    );
    const below = captions ? CAPTION_HEIGHT : 0;
    const tracks = (/** @type {number[]} */ sizes) => sizes.map((size) => `${size}px`).join(" ");
    style.gridTemplateColumns = (this.named.rowNames ? `${header}px ` : "") + tracks(widths);
    style.gridTemplateRows =
      (this.named.columnNames ? `${HEADER_HEIGHT}px ` : "") +
      tracks(heights.map((each) => each + below));
    classList.toggle("fitv2-viewer-no-captions", !captions);
    for (const [cell, [frameWidth, frameHeight]] of frames) {
      const frame = this._places.get(key(cell))?.firstElementChild;
      if (!(frame instanceof HTMLElement)) continue;
      frame.style.width = `${frameWidth}px`;
      frame.style.height = `${frameHeight}px`;
      frame.dataset.pixels = String(cell.width / frameWidth);
    }
  }

  /** Whether the images have the sizes that fit into the box as it is now. */
  get isLaidOut() {
    return this._box === boxOf(this.element);
  }

  /** Whether there is more of the grid than its box shows. */
  get scrolls() {
    return this.element.scrollHeight > this.element.clientHeight + 1;
  }

  /**
   * @param {Cell | null} first
   * @param {Cell | null} second
   */
  mark(first, second) {
    for (const [place, made] of this._places) {
      const mark = first && place === key(first) ? "A" : second && place === key(second) ? "B" : "";
      if (mark) made.dataset.mark = mark;
      else delete made.dataset.mark;
      if (made.getAttribute("role") === "gridcell") {
        made.setAttribute("aria-selected", String(Boolean(mark)));
      }
    }
  }

  /**
   * Moves the keyboard's place.
   *
   * @param {{row: number, column: number}} to
   * @param {boolean} focus whether the keyboard is in the grid
   */
  moveTo(to, focus) {
    const page = Math.floor(this.rows.indexOf(to.row) / this.rowsPerPage);
    if (to.row >= 0 && page >= 0 && page !== this.page) {
      this.page = page;
      this.draw();
      this.on.onHide();
    }
    const place = this._places.get(key(to));
    if (!place) return;
    this._places.get(key(this.at))?.setAttribute("tabindex", "-1");
    this.at = { row: to.row, column: to.column };
    place.setAttribute("tabindex", "0");
    if (focus) {
      place.focus({ preventScroll: true });
      place.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    const cell = this.current;
    if (cell) this.on.onCurrent(cell);
  }

  /**
   * The place one step away, past hidden ones.
   *
   * @param {{row: number, column: number}} from
   * @param {number} down
   * @param {number} right
   * @param {boolean} names whether names of rows and columns count
   */
  next(from, down, right, names) {
    const rows = names && this.named.columnNames ? [-1, ...this.rows] : this.rows;
    const columns = names && this.named.rowNames ? [-1, ...this.columns] : this.columns;
    /** @type {(all: number[], at: number, by: number) => number} */
    const step = (all, at, by) =>
      all[Math.min(all.length - 1, Math.max(0, all.indexOf(at) + by))] ?? at;
    const to = { row: step(rows, from.row, down), column: step(columns, from.column, right) };
    return to.row < 0 && to.column < 0 ? from : to;
  }

  /** @param {{row: number, column: number}} place a name: hides its row or column */
  hideAt({ row, column }) {
    if (row < 0 && this.columns.length > 1) this.hide([], [column]);
    if (column < 0 && this.rows.length > 1) this.hide([row], []);
  }

  /**
   * @param {number[]} rows
   * @param {number[]} columns
   */
  hide(rows, columns) {
    rows.forEach((row) => this.hiddenRows.add(row));
    columns.forEach((column) => this.hiddenColumns.add(column));
    this.draw();
    this.on.onHide();
  }

  /** @param {number} by pages */
  turn(by) {
    this.page = Math.min(this.pages - 1, Math.max(0, this.page + by));
    this.draw();
    this.element.scrollTo(0, 0);
  }

  showAll() {
    this.hiddenRows.clear();
    this.hiddenColumns.clear();
    this.draw();
    this.on.onHide();
  }

  _listen() {
    const at = (/** @type {Event} */ event) => {
      const made = /** @type {HTMLElement} */ (event.target).closest("[data-place]");
      const place = made instanceof HTMLElement ? made.dataset.place : undefined;
      if (place === undefined) return null;
      const [row, column] = place.split(",").map(Number);
      return { row, column };
    };
    this.element.addEventListener("click", (event) => {
      const place = at(event);
      if (!place || this.on.wasDragged()) return;
      const cell = this.cellAt(place.row, place.column);
      if (!cell) return this.hideAt(place);
      this.moveTo(place, true);
      this.on.onPick(cell, event.shiftKey);
    });
    this.element.addEventListener("dblclick", (event) => {
      const place = at(event);
      const cell = place && this.cellAt(place.row, place.column);
      if (cell && !this.on.wasDragged()) this.on.onOpen(cell);
    });
    this.element.addEventListener("pointerover", (event) => {
      const place = at(event);
      this.on.onHover((place && this.cellAt(place.row, place.column)) ?? null);
    });
    this.element.addEventListener("pointerleave", () => this.on.onHover(null));
  }
}

/** @param {Comparison} comparison */
function shapeOf({ rows, columns, cells }) {
  return JSON.stringify([rows, columns, cells.length]);
}

/** @param {HTMLElement} element */
function boxOf({ offsetWidth, offsetHeight }) {
  return `${offsetWidth} ${offsetHeight}`;
}

/** @param {{row: number, column: number}} place */
function key({ row, column }) {
  return `${row},${column}`;
}

/**
 * @param {number[]} places in order
 * @param {number} place -1 stands for names, which are always there
 * @returns {number} the place itself, or the next one that there is
 */
function nearest(places, place) {
  if (place < 0) return place;
  return places.find((each) => each >= place) ?? places[places.length - 1] ?? 0;
}

/**
 * @param {Cell[]} cells
 * @param {"row" | "column"} axis
 */
function numbers(cells, axis) {
  return [...new Set(cells.map((cell) => cell[axis]))].sort((a, b) => a - b);
}
