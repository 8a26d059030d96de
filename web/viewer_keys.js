/** The keys of the viewer. */

import { VIEWS } from "./viewer_bar.js";

/** @typedef {import("./viewer.js").Viewer} Viewer */

const WALKS = /** @type {Record<string, [number, number]>} */ ({
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
});
const PAGES = /** @type {Record<string, number>} */ ({ PageUp: -1, PageDown: 1 });

/** What a key does wherever the keyboard is in the viewer. */
const COMMANDS = /** @type {Record<string, (viewer: Viewer) => void>} */ ({
  1: ({ zoom }) => zoom.actualPixels(),
  0: ({ zoom }) => zoom.fit(),
  "+": ({ zoom }) => zoom.step(1),
  "=": ({ zoom }) => zoom.step(1),
  "-": ({ zoom }) => zoom.step(-1),
  t: (viewer) => viewer.toggleScale(),
  h: ({ grid }) => grid.hideAt({ row: -1, column: grid.at.column }),
  H: ({ grid }) => grid.hideAt({ row: grid.at.row, column: -1 }),
  u: ({ grid }) => grid.showAll(),
  x: (viewer) => viewer.swap(),
  c: ({ details }) => void details.act("copy"),
  f: (viewer) => viewer.toggleFullScreen(),
});

/**
 * @param {Viewer} viewer
 * @param {KeyboardEvent} event
 * @returns {(() => void) | undefined} what the key does; undefined where it is not for the viewer
 */
export function commandOf(viewer, event) {
  const { key, shiftKey } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
  const { activeElement } = document;
  const inGrid = viewer.grid.element.contains(activeElement);
  const inPair = viewer.pair.element.contains(activeElement);
  // Buttons and sliders beside the images keep the keys that they need.
  if (inGrid || inPair) {
    if (key in WALKS) return () => viewer.walk(...WALKS[key], shiftKey);
    if (key in PAGES) return () => viewer.turn(PAGES[key]);
  }
  if (inGrid && (key === "Enter" || key === " ")) return () => viewer.pickCurrent(shiftKey);
  if (inPair && key === " ") return () => viewer.pair.pause();
  if (key === "Escape") {
    const leads = viewer.choosingSecond || viewer.view !== "grid" || viewer.dialog.open;
    return leads ? () => viewer.back() : undefined;
  }
  const view = VIEWS.find((name) => name[0] === key);
  if (view) return () => viewer.setView(view);
  return key in COMMANDS ? () => COMMANDS[key](viewer) : undefined;
}
