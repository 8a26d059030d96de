/** The elements that a grid of images is made of. */

import { element } from "./elements.js";
import { captionOf, isBeyond, measuresOf, nameOf } from "./viewer_cells.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */

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
      title: `${name}\nClick to hide this ${kind}`,
      "aria-label": `${name}. Press Enter to hide this ${kind}.`,
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
  const [first, second] = captionOf(cell, keys);
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
      "aria-label": [nameOf(comparison, cell), first, measures].filter(Boolean).join(", "),
    },
    element("div", { class: "fitv2-viewer-frame" }, image),
    element(
      "div",
      { class: "fitv2-viewer-caption", "aria-hidden": "true", title: measures },
      ...(first ? [element("div", {}, first)] : []),
      element("div", { class: `fitv2-viewer-measures${tone}` }, second),
    ),
  );
  return made;
}
