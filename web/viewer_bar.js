/** The bar of the compare viewer: how its images are shown. */

import { element } from "./elements.js";
import { TRUE_SCALE } from "./viewer_layout.js";
import { PAIR_VIEWS } from "./viewer_pair.js";
import { say } from "./words.js";

export const VIEWS = ["grid", "one", ...PAIR_VIEWS];
const TITLES = /** @type {Record<string, string>} */ ({
  grid: "All images (G)",
  one: "Image A alone (O)",
  slider: "A and B with a slider between them (S)",
  blink: "A and B in turn (B); Space pauses",
  difference: "Where A and B differ (D)",
});
const LARGEST_SIZE = 6;
const HELP = [
  "Click an image: A. Shift-click another: B.",
  "Arrows: walk; with Shift, B walks.",
  "Wheel, + and −: zoom all. Drag: move all.",
  "1: one pixel to one. 0: fit. T: true scale.",
  "Click a name, H or Shift+H: hide a column or row. U: show all.",
  "X: swap A and B. C: copy settings.",
  "Double-click or F: full screen. Esc: back.",
];
const SVG = "http://www.w3.org/2000/svg";
const CORNERS = "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4";

export class Bar {
  /** @param {import("./viewer.js").Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    this._views = VIEWS.map((view) =>
      button(say(view), say(TITLES[view]), () => viewer.setView(view)),
    );
    this._scale = button(
      say(TRUE_SCALE),
      say("One scale for all: larger images look larger (T)"),
      () => viewer.toggleScale(),
    );
    this._scale.className = "fitv2-viewer-grid-only";
    this._size = element("input", {
      class: "fitv2-viewer-grid-only",
      type: "range",
      min: "1",
      max: String(LARGEST_SIZE),
      step: "0.05",
      value: "1",
      title: say("Size of the images in the grid"),
      "aria-label": say("Size of the images in the grid"),
      input: () => viewer.setSize(Number(this._size.value)),
    });
    this._pages = element("span", { "aria-live": "polite" });
    this._pager = element(
      "span",
      { class: "fitv2-viewer-pager fitv2-viewer-grid-only" },
      button("‹", say("Page before (Page Up)"), () => viewer.turn(-1)),
      this._pages,
      button("›", say("Next page (Page Down)"), () => viewer.turn(1)),
    );
    this._showAll = button("", say("Show all rows and columns (U)"), () =>
      viewer.grid.showAll(),
    );
    this._fullScreen = button(corners(), say("Full screen (F)"), () =>
      viewer.toggleFullScreen(),
    );
    const keys = HELP.map((line) => say(line)).join("\n");
    const help = element("span", { class: "fitv2-viewer-help", title: keys, role: "img" }, "?");
    help.setAttribute("aria-label", keys);
    this.element = element(
      "div",
      { class: "fitv2-viewer-bar", role: "toolbar", "aria-label": say("How the images are shown") },
      element("span", { class: "fitv2-viewer-views" }, ...this._views),
      this._scale,
      this._size,
      element(
        "span",
        { class: "fitv2-viewer-views" },
        button(say("fit"), say("Whole images (0)"), () => viewer.zoom.fit()),
        button("1:1", say("One pixel of the image to one of the screen (1)"), () =>
          viewer.zoom.actualPixels(),
        ),
      ),
      this._showAll,
      this._pager,
      element("span", { class: "fitv2-viewer-space" }),
      help,
      this._fullScreen,
    );
  }

  update() {
    const { grid, view, dialog } = this.viewer;
    VIEWS.forEach((name, place) => press(this._views[place], name === view));
    press(this._scale, grid.scale === TRUE_SCALE);
    press(this._fullScreen, dialog.open);
    const hidden = grid.hiddenRows.size + grid.hiddenColumns.size;
    this._showAll.textContent = say("show {count} hidden", { count: hidden });
    this._showAll.hidden = !hidden;
    this._pager.hidden = grid.pages < 2;
    this._pages.textContent = say("{page} of {pages}", {
      page: grid.page + 1,
      pages: grid.pages,
    });
  }
}

/**
 * @param {string | Node} face
 * @param {string} title
 * @param {() => void} click
 */
function button(face, title, click) {
  return element("button", { type: "button", title, "aria-label": title, click }, face);
}

/**
 * @param {HTMLElement} pressed
 * @param {boolean} is
 */
function press(pressed, is) {
  pressed.setAttribute("aria-pressed", String(is));
}

/** Four corners of a screen. */
function corners() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", CORNERS);
  svg.append(path);
  return svg;
}
