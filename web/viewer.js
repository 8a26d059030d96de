/** The viewer of a comparison: a grid, one image or two, in its node or full screen. */

import { element } from "./elements.js";
import { showOver } from "./host/overlay.js";
import { Bar } from "./viewer_bar.js";
import { Details } from "./viewer_details.js";
import { Grid } from "./viewer_grid.js";
import { commandOf } from "./viewer_keys.js";
import { FITTED, TRUE_SCALE } from "./viewer_layout.js";
import { PAIR_VIEWS, Pair } from "./viewer_pair.js";
import { Zoom } from "./viewer_zoom.js";
import { say } from "./words.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */

const NOTHING_YET = "Run the workflow to compare its images here.";
const MESSAGE_MILLISECONDS = 6000;

export class Viewer {
  /**
   * @param {{urlOf: (cell: Cell) => string, keep: (choice: import("./viewer_memory.js").Choice)
   *   => void} & import("./viewer_details.js").Actions} actions
   */
  constructor(actions) {
    this.actions = actions;
    /** @type {Comparison | null} */
    this.comparison = null;
    this.view = "grid";
    this.lastPairView = PAIR_VIEWS[0];
    /** @type {Cell | null} */
    this.first = null;
    /** @type {Cell | null} */
    this.second = null;
    /** Whether the next click chooses B, for those who have no Shift key. */
    this.choosingSecond = false;
    this.pair = new Pair(actions.urlOf);
    this.grid = new Grid({
      urlOf: actions.urlOf,
      onPick: (cell, second) => this.pick(cell, second || this.choosingSecond),
      onOpen: () => this.toggleFullScreen(true),
      onCurrent: () => this._showDetails(),
      onHover: (cell) => this.details.show(this.comparison, cell ?? this.subject, this.grid.cells),
      onHide: () => this._update(),
      wasDragged: () => this.zoom.dragged,
    });
    this.details = new Details(this);
    this.bar = new Bar(this);
    this.body = element("div", { class: "fitv2-viewer-body" });
    this.body.append(this.grid.element, this.pair.element);
    this.message = element("div", { class: "fitv2-viewer-message", role: "status" });
    const gone = say("no longer there: run again");
    this.empty = element("div", { class: "fitv2-viewer-empty" }, say(NOTHING_YET));
    this.root = element(
      "div",
      {
        class: "fitv2-viewer",
        role: "group",
        "aria-label": say("Comparison"),
        "data-capture-wheel": "true",
        keydown: (/** @type {KeyboardEvent} */ event) => this._key(event),
      },
      this.bar.element,
      element("div", { class: "fitv2-viewer-main" }, this.body, this.details.element),
      this.message,
      this.empty,
    );
    this.root.style.setProperty("--gone", JSON.stringify(gone));
    /** Stays in the node while the viewer is full screen. */
    this.element = element("div", { class: "fitv2-viewer-place" }, this.root);
    this.dialog = element("dialog", { class: "fitv2-viewer-full-screen" });
    this.dialog.setAttribute("aria-label", say("Comparison"));
    this.dialog.addEventListener("close", () => this._leaveFullScreen());
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.back();
    });
    this.zoom = new Zoom(this.root, ".fitv2-viewer-frame");
    this.zoom.listen(this.body, (event) => this._wheel(event));
    this._resized = new ResizeObserver(() => this._layOut());
    this._resized.observe(this.body);
    this._update();
  }

  /** @param {Comparison} comparison */
  setComparison(comparison) {
    this.comparison = comparison;
    this.grid.setComparison(comparison);
    const again = (/** @type {Cell | null} */ cell) =>
      (cell && this.grid.cellAt(cell.row, cell.column)) ?? null;
    this.first = again(this.first);
    this.second = again(this.second);
    this._update();
  }

  /** What people have chosen, as texts and numbers. */
  get choice() {
    const { grid, view, first, second } = this;
    const place = (/** @type {Cell | null} */ cell) => cell && [cell.row, cell.column];
    return {
      ...{ shape: grid.shape, view, scale: grid.scale },
      ...{ rows: [...grid.hiddenRows], columns: [...grid.hiddenColumns] },
      ...{ first: place(first), second: place(second) },
    };
  }

  /**
   * Shows a comparison as people have chosen, where it is still of the same shape.
   *
   * @param {import("./viewer_memory.js").Choice} choice
   */
  choose({ shape, view, scale, rows, columns, first, second }) {
    if (shape !== this.grid.shape) return;
    const at = (/** @type {number[] | null} */ place) =>
      (place && this.grid.cellAt(place[0], place[1])) ?? null;
    [this.first, this.second] = [at(first), at(second)];
    this.view = this.first ? view : "grid";
    this.grid.scale = scale;
    this.grid.hide(rows, columns);
  }

  /** Frees what outlives the elements. */
  dispose() {
    this._resized.disconnect();
    this.pair.stop();
    this.dialog.remove();
  }

  /**
   * Chooses A or B; with both, they are shown against each other.
   *
   * @param {Cell} cell
   * @param {boolean} second
   */
  pick(cell, second) {
    this.choosingSecond = false;
    if (second && this.first && cell !== this.first) {
      this.second = cell;
      this.setView(this.view === "grid" || this.view === "one" ? this.lastPairView : this.view);
      return;
    }
    this.first = cell;
    if (this.second === cell) this.second = null;
    this._update();
  }

  /** Lets the next click choose B. */
  chooseSecond() {
    this.first ??= this.grid.current ?? null;
    this.choosingSecond = true;
    this.setView("grid");
    this.say(say("Click the image that is to be B."));
  }

  /** @param {string} view one of grid, one, slider, blink, difference */
  setView(view) {
    if (!this.comparison) return;
    const pair = PAIR_VIEWS.includes(view);
    if (view !== "grid") this.first ??= this.grid.current ?? this.grid.cells[0];
    if (pair) this.lastPairView = view;
    if (pair && !this.second) return this.chooseSecond();
    const hadFocus = this.root.contains(document.activeElement);
    this.view = view;
    this._update();
    if (hadFocus) this.focus();
  }

  /** Gives the keyboard to what is shown. */
  focus() {
    if (this.view === "grid") this.grid.moveTo(this.grid.at, true);
    else this.pair.element.focus();
  }

  /**
   * Tells what an action did. A toast of the host would lie behind the full screen.
   *
   * @param {string} text
   */
  say(text) {
    window.clearTimeout(this._silence);
    this.message.textContent = text;
    this._silence = window.setTimeout(() => (this.message.textContent = ""), MESSAGE_MILLISECONDS);
  }

  /** @param {boolean} [open] */
  toggleFullScreen(open = !this.dialog.open) {
    if (open === this.dialog.open) return;
    if (!open) return this.dialog.close();
    this.dialog.append(this.root);
    showOver(this.element, this.dialog);
    this._update();
    this.focus();
  }

  _leaveFullScreen() {
    this.element.append(this.root);
    this.dialog.remove();
    this._update();
    this.focus();
  }

  /** The cell that details and actions are about, unless the pointer is over another. */
  get subject() {
    return (this.view === "grid" ? this.grid.current : this.first) ?? this.first;
  }

  _showDetails() {
    this.details.show(this.comparison, this.subject ?? null, this.grid.cells);
  }

  _update() {
    const { comparison, view } = this;
    this.root.dataset.view = view;
    this.root.classList.toggle("fitv2-viewer-without-images", !comparison);
    this.root.classList.toggle("fitv2-viewer-choosing", this.choosingSecond);
    if (!comparison) return;
    this.grid.mark(this.first, this.second);
    if (view === "grid") this.pair.stop();
    else if (this.first) this.pair.show(view, comparison, this.first, this.second);
    this.bar.update();
    this._showDetails();
    this._layOut();
    this.actions.keep(this.choice);
    // Where the box was measured while the page was being changed, nothing tells of its real size.
    requestAnimationFrame(() => {
      if (this.view === "grid" && !this.grid.isLaidOut) this._layOut();
    });
  }

  _layOut() {
    if (this.view === "grid") this.grid.layOut();
    else this.pair.layOut();
    this.zoom.refresh();
  }

  toggleScale() {
    this.grid.scale = this.grid.scale === FITTED ? TRUE_SCALE : FITTED;
    this._update();
  }

  /** @param {number} size of the grid's images: 1 fits into the box */
  setSize(size) {
    this.grid.size = size;
    this._layOut();
  }

  /** @param {number} by pages */
  turn(by) {
    this.grid.turn(by);
    this._update();
  }

  /**
   * What the wheel does: before a click into the viewer it moves the canvas.
   *
   * @param {WheelEvent} event
   * @returns {"zoom" | "scroll" | "canvas"}
   */
  _wheel(event) {
    if (!this.dialog.open && !this.root.contains(document.activeElement)) return "canvas";
    const scrolls = this.view === "grid" && this.zoom.isFit && this.grid.scrolls;
    return scrolls && !event.ctrlKey ? "scroll" : "zoom";
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const command = this.comparison && commandOf(this, event);
    if (!command) return;
    // The host has shortcuts of one letter of its own.
    event.preventDefault();
    event.stopPropagation();
    command();
  }

  /** Back to where Escape leads: all images, then out of the full screen. */
  back() {
    if (this.choosingSecond) {
      this.choosingSecond = false;
      this._update();
    } else if (this.view !== "grid") this.setView("grid");
    else this.toggleFullScreen(false);
  }

  /** @param {boolean} second whether the place of the keyboard becomes B; a name is hidden */
  pickCurrent(second) {
    const cell = this.grid.current;
    if (cell) this.pick(cell, second || this.choosingSecond);
    else this.grid.hideAt(this.grid.at);
  }

  swap() {
    if (!this.second) return;
    [this.first, this.second] = [this.second, this.first];
    this._update();
  }

  /**
   * Walks the grid; beside it, walks A or B through it.
   *
   * @param {number} down
   * @param {number} right
   * @param {boolean} second
   */
  walk(down, right, second) {
    if (this.view === "grid") {
      return this.grid.moveTo(this.grid.next(this.grid.at, down, right, true), true);
    }
    const from = second ? this.second : this.first;
    if (!from) return;
    const to = this.grid.next(from, down, right, false);
    const cell = this.grid.cellAt(to.row, to.column);
    if (!cell) return;
    if (second) this.second = cell;
    else this.first = cell;
    this.grid.moveTo(to, false);
    this._update();
  }
}
