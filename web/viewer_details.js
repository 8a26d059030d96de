/** The settings of one cell of a comparison, and what can be done with it. */

import { element } from "./elements.js";
import { differing, measuresOf, nameOf, settingsOf } from "./viewer_cells.js";
import { say } from "./words.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */
/**
 * What can be done with a cell; each returns what to tell.
 *
 * @typedef {{save: (cell: Cell, comparison: Comparison) => Promise<string>,
 *   copy: (cell: Cell) => Promise<string>, use: (cell: Cell) => string,
 *   open: (cell: Cell) => Promise<string>}} Actions
 */

const BUTTONS = /** @type {[keyof Actions, string, string][]} */ ([
  ["save", "Save", "Save this image, with its workflow in it"],
  ["copy", "Copy settings", "Copy its settings as text (C)"],
  [
    "use",
    "Use this cell",
    "Write its settings into the nodes that these images come from; undo takes it back",
  ],
  ["open", "Open as graph", "A new workflow that draws this image alone"],
]);

export class Details {
  /** @param {import("./viewer.js").Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    this._choose = element(
      "button",
      {
        type: "button",
        title: say("The next image that is clicked is B (Shift-click)"),
        click: () => viewer.chooseSecond(),
      },
      say("Choose B"),
    );
    this._title = element("div", { class: "fitv2-viewer-title" });
    this._list = element("dl", { class: "fitv2-viewer-settings" });
    this.element = element(
      "section",
      { class: "fitv2-viewer-details", "aria-label": say("Settings of the image") },
      element("div", { class: "fitv2-viewer-told" }, this._title, this._list),
      element(
        "div",
        { class: "fitv2-viewer-actions" },
        this._choose,
        ...BUTTONS.map(([action, text, title]) =>
          element(
            "button",
            { type: "button", title: say(title), click: () => this.act(action) },
            say(text),
          ),
        ),
      ),
    );
  }

  /**
   * Does something with the cell that the keyboard is at: a button is no place to hover over.
   *
   * @param {keyof Actions} action
   */
  async act(action) {
    const { viewer } = this;
    const cell = viewer.subject;
    if (!cell || !viewer.comparison) return;
    try {
      viewer.say(await viewer.actions[action](cell, viewer.comparison));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      viewer.say(say("That did not work: {reason}", { reason }));
    }
  }

  /**
   * @param {Comparison | null} comparison
   * @param {Cell | null} cell
   * @param {Cell[]} cells among which settings are told apart
   */
  show(comparison, cell, cells) {
    this.element.hidden = !cell;
    this._choose.setAttribute("aria-pressed", String(this.viewer.choosingSecond));
    if (!comparison || !cell) return;
    const keys = differing(cells);
    const mark = cell === this.viewer.first ? "A" : cell === this.viewer.second ? "B" : "";
    const badge = element("b", { class: "fitv2-viewer-mark", "data-mark": mark }, mark);
    const marks = mark ? [badge, " "] : [];
    this._title.replaceChildren(
      ...marks,
      nameOf(comparison, cell),
      element("span", { class: "fitv2-viewer-measures" }, measuresOf(cell)),
    );
    this._list.replaceChildren(
      ...settingsOf(cell).map(({ key, word, value }) =>
        element(
          "div",
          { class: keys.has(key) && "fitv2-viewer-differs" },
          element("dt", {}, say(word)),
          element("dd", {}, value),
        ),
      ),
    );
  }
}
