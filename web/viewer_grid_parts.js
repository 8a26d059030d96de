/** The elements that a grid of images is made of. */

import { element } from "./elements.js";
import { captionOf, countsOf, isBeyond, measuresOf, nameOf } from "./viewer_cells.js";
import { say } from "./words.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */

const HIDE_COLUMN = "{name}. Press Enter to hide this column.";
const HIDE_ROW = "{name}. Press Enter to hide this row.";

/** @param {Node[]} children */
export function rowOf(children) {
  return element("div", { role: "row", class: "fitv2-viewer-row" }, ...children);
}

/**
 * The name of a row or column; a press hides it.
 *
 * @param {Comparison} comparison
 * @param {number} row -1 for a column
 * @param {number} column -1 for a row
 */
export function headerOf(comparison, row, column) {
  const name = row < 0 ? comparison.columns[column] : comparison.rows[row];
  const kind = row < 0 ? "column" : "row";
  return element(
    "div",
    {
      class: `fitv2-viewer-name fitv2-viewer-name-${kind}`,
      role: `${kind}header`,
      tabindex: "-1",
      title: `${name}\n${say(row < 0 ? "Click to hide this column" : "Click to hide this row")}`,
      "aria-label": say(row < 0 ? HIDE_COLUMN : HIDE_ROW, { name: name ?? "" }),
    },
    element("span", {}, name ?? ""),
  );
}

/**
 * An image with its caption.
 *
 * @param {Comparison} comparison
 * @param {Cell} cell
 * @param {Set<any>} keys the settings that its caption tells
 * @param {string} src
 */
export function cellOf(comparison, cell, keys, src) {
  const caption = captionOf(cell, keys);
  const counts = countsOf(cell).map(({ number, unit }, at) => {
    const counted = element("span", { class: "fitv2-viewer-unit" }, ` ${say(unit)}`);
    return element("span", {}, at ? " · " : "", number, counted);
  });
  const measures = measuresOf(cell);
  const image = element("img", {
    alt: "",
    loading: "lazy",
    decoding: "async",
    draggable: "false",
    error: () => made.classList.add("fitv2-viewer-gone"),
    src,
  });
  const tone = isBeyond(cell) ? " fitv2-viewer-beyond" : "";
  const made = element(
    "div",
    {
      class: "fitv2-viewer-cell",
      role: "gridcell",
      tabindex: "-1",
      "aria-label": [nameOf(comparison, cell), caption, measures].filter(Boolean).join(", "),
    },
    element("div", { class: "fitv2-viewer-frame" }, image),
    element(
      "div",
      { class: "fitv2-viewer-caption", "aria-hidden": "true", title: measures },
      ...(caption ? [element("div", {}, caption)] : []),
      element("div", { class: `fitv2-viewer-measures${tone}` }, ...counts),
    ),
  );
  return made;
}
