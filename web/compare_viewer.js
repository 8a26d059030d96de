/** The compare viewer in FiT Compare Sheet. */

import { addElement, onOutput, passToCanvas, urlOf } from "./host/frontend.js";
import { hidePreview, lastOutput, placeOf } from "./host/outputs.js";
import { copySettings, openAsGraph, saveCell, useCell } from "./viewer_actions.js";
import { comparisonOf } from "./viewer_cells.js";
import { keepChoice, keptChoice } from "./viewer_memory.js";
import { Viewer } from "./viewer.js";

const OUTPUT = "fitv2_cells";
const HEIGHT = 340;
const NEW_WIDTH = 560;
/** The viewer takes all the height that the node has to give. */
const ANY_HEIGHT = 8192;

/**
 * @param {any} node a FiT Compare Sheet
 */
export function setUpCompareViewer(node) {
  const viewer = new Viewer({
    urlOf,
    keep: (choice) => keepChoice(placeOf(node), choice),
    save: (cell, comparison) => saveCell(comparison, cell, urlOf(cell)),
    copy: (cell) => copySettings(cell, viewer.root),
    use: (cell) => useCell(node, cell),
    open: (cell) => {
      viewer.toggleFullScreen(false);
      return openAsGraph(node, cell);
    },
  });
  const show = (/** @type {any} */ output) => {
    const comparison = comparisonOf(output);
    if (comparison) viewer.setComparison(comparison);
    return comparison;
  };
  const widget = addElement(node, "viewer", viewer.element, {
    minHeight: HEIGHT,
    maxHeight: ANY_HEIGHT,
    newWidth: NEW_WIDTH,
  });
  const removed = widget.onRemove;
  widget.onRemove = () => {
    removed?.call(widget);
    viewer.dispose();
  };
  passToCanvas(viewer.element);
  // The viewer shows the same images, one by one.
  hidePreview(node);
  onOutput(node, show);
  lastOutput(node, OUTPUT)
    .then((output) => {
      const choice = keptChoice(placeOf(node)); // what is shown first is kept, too
      if (!viewer.comparison && show(output) && choice) viewer.choose(choice);
    })
    .catch(() => {}); // without a history the viewer waits for the next run
}
