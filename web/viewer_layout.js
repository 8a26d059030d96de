/** How large the images of a grid are: fitted to the same area, or all at one scale. */

/** @typedef {import("./viewer_cells.js").Cell} Cell */

export const FITTED = "fitted";
export const TRUE_SCALE = "true scale";
export const GAP = 6;
export const CAPTION_HEIGHT = 30;
export const HEADER_HEIGHT = 22;
/** CSS pixels: the side of a square image below which the grid scrolls instead of shrinking. */
const SMALLEST_SIDE = 32;
/** CSS pixels: below this side images get no captions, above it columns as wide as captions. */
const CAPTIONED_SIDE = 76;
const CAPTION_WIDTH = 108;
const HEADER_SHARE = 0.2;
/** CSS pixels of the names of rows: short ones fit in, and none gets more than twice as many. */
const HEADER_WIDTH = 120;
/** CSS pixels that a character of a name takes where it may be on two lines. */
const HALF_CHARACTER = 3.5;

/**
 * Sizes in CSS pixels for images in rows and columns, so that all fit into a box if they stay
 * legible there.
 *
 * @param {Cell[]} cells
 * @param {number[]} rows in the order of the page; images of other rows only set the scale
 * @param {number[]} columns
 * @param {{width: number, height: number}} box
 * @param {{scale: string, size: number, rowNames: boolean, columnNames: boolean,
 *   longestName: number}} options `size` is how much larger than fitting; `longestName` counts the
 *   characters of the longest name of a row
 * @returns {{widths: number[], heights: number[], header: number, captions: boolean,
 *   frames: Map<Cell, [number, number]>}} widths of columns, heights of rows' images, width of the
 *   names of rows, and the width and height of each image
 */
export function layOut(cells, rows, columns, box, options) {
  const { scale, size, rowNames, columnNames, longestName } = options;
  /** @type {Map<Cell, [number, number]>} */
  const frames = new Map();
  const widths = new Map();
  const heights = new Map();
  let sides = 0;
  for (const cell of cells) {
    const unit = scale === FITTED ? Math.sqrt(cell.width * cell.height) : 1;
    const [width, height] = [cell.width / unit, cell.height / unit];
    frames.set(cell, [width, height]);
    widths.set(cell.column, Math.max(width, widths.get(cell.column) ?? 0));
    heights.set(cell.row, Math.max(height, heights.get(cell.row) ?? 0));
    sides += Math.sqrt(width * height);
  }
  const across = columns.map((column) => widths.get(column) ?? 0);
  const down = rows.map((row) => heights.get(row) ?? 0);
  const needed = Math.max(HEADER_WIDTH, longestName * HALF_CHARACTER);
  const header = rowNames ? Math.min(needed, 2 * HEADER_WIDTH, box.width * HEADER_SHARE) : 0;
  const freeWidth = box.width - header - GAP * (columns.length + 1) - 2;
  const freeHeight =
    box.height - (columnNames ? HEADER_HEIGHT : 0) - GAP * (rows.length + 2) - 2;
  const side = sides / cells.length;
  const fitting = (/** @type {boolean} */ captions) =>
    Math.min(
      largestFactor(freeWidth, across, captions ? CAPTION_WIDTH : 0),
      largestFactor(freeHeight - (captions ? rows.length * CAPTION_HEIGHT : 0), down, 0),
    );
  const captioned = Math.max(fitting(true), SMALLEST_SIDE / side) * size;
  const captions = captioned * side >= CAPTIONED_SIDE;
  const factor = captions ? captioned : Math.max(fitting(false), SMALLEST_SIDE / side) * size;
  for (const [cell, [width, height]] of frames) frames.set(cell, [width * factor, height * factor]);
  return {
    widths: across.map((width) => Math.max(width * factor, captions ? CAPTION_WIDTH : 0)),
    heights: down.map((height) => height * factor),
    header,
    captions,
    frames,
  };
}

/**
 * The largest factor with which sizes still fit into a space, where none gets less than `least`.
 *
 * @param {number} space
 * @param {number[]} sizes
 * @param {number} least
 * @returns {number} 0 where they do not fit
 */
function largestFactor(space, sizes, least) {
  let growing = sizes;
  let factor = 0;
  for (let before = -1; growing.length && growing.length !== before; ) {
    before = growing.length;
    const left = space - (sizes.length - growing.length) * least;
    factor = Math.max(0, left) / growing.reduce((sum, size) => sum + size, 0);
    growing = growing.filter((size) => size * factor >= least);
  }
  return growing.length ? factor : 0;
}
