/**
 * The cells of a comparison: which of their settings differ, and how they are named in texts and
 * files. Nothing here touches the page.
 */

/**
 * @typedef {{checkpoint?: string, class?: string, size?: string, width?: number, height?: number,
 *   method?: string, decoupled?: boolean, attention_scale?: string, seed?: number | string,
 *   steps?: number, solver?: string, guidance_scale?: number}} Settings
 *   a seed that a number would round is a text
 * @typedef {{row: number, column: number, filename: string, subfolder: string, type: string,
 *   width: number, height: number, tokens?: number, factor?: number | null,
 *   side_factor?: number | null, settings: Settings}} Cell
 *   sizes in pixels; factor is its tokens over the trained ones, side_factor its longest side over
 *   the trained one
 * @typedef {{rows: string[], columns: string[], cells: Cell[]}} Comparison
 */

import { say } from "./words.js";

/** The settings in the order in which they are read, with the words for them. */
const WORDS = /** @type {Record<keyof Settings, string>} */ ({
  checkpoint: "checkpoint",
  class: "class",
  size: "size",
  method: "extrapolation",
  decoupled: "axes",
  attention_scale: "attention scale",
  seed: "seed",
  steps: "steps",
  solver: "solver",
  guidance_scale: "guidance",
});
const KEYS = /** @type {(keyof Settings)[]} */ (Object.keys(WORDS));
/** Settings whose value alone says nothing. */
const NUMBERS = new Set(["seed", "steps", "guidance_scale"]);
const LONGEST_NAME = 120;

/**
 * @param {any} output of FiT Compare Sheet
 * @returns {Comparison | null} null where it holds no cells
 */
export function comparisonOf(output) {
  const comparison = output?.fitv2_cells?.[0];
  if (!comparison?.cells?.length) return null;
  const cells = comparison.cells.map((/** @type {Cell} */ cell) => ({ ...cell }));
  for (const cell of cells) cell.settings = { size: sizeOf(cell), ...cell.settings };
  return { rows: comparison.rows ?? [], columns: comparison.columns ?? [], cells };
}

/** @param {Cell} cell */
function sizeOf(cell) {
  return `${cell.width} × ${cell.height}`;
}

/**
 * @param {Cell[]} cells
 * @returns {Set<keyof Settings>} the settings that are not the same in all of them
 */
export function differing(cells) {
  return new Set(KEYS.filter((key) => new Set(cells.map((cell) => cell.settings[key])).size > 1));
}

/**
 * The settings that differ and that neither the name of the row nor that of the column tells.
 * A size is never told by a ratio, so it stays.
 *
 * @param {Cell[]} cells
 * @returns {Set<keyof Settings>}
 */
export function untold(cells) {
  const left = differing(cells);
  for (const key of left) {
    const told = ["row", "column"].some((axis) => {
      const seen = new Map();
      return cells.every((cell) => {
        const place = cell[/** @type {"row" | "column"} */ (axis)];
        if (!seen.has(place)) seen.set(place, cell.settings[key]);
        return seen.get(place) === cell.settings[key];
      });
    });
    if (told && key !== "size") left.delete(key);
  }
  return left;
}

/**
 * @param {keyof Settings} key
 * @param {any} value
 * @returns {string} how a value is shown
 */
export function shown(key, value) {
  if (key === "decoupled") return value ? "decoupled" : "coupled";
  return key === "size" ? `${value} px` : String(value);
}

/**
 * @param {Cell} cell
 * @returns {{key: keyof Settings, word: string, value: string}[]} its settings, in reading order
 */
export function settingsOf(cell) {
  return KEYS.filter((key) => cell.settings[key] != null).map((key) => ({
    key,
    word: WORDS[key],
    value: shown(key, cell.settings[key]),
  }));
}

/**
 * The line under an image that says what its row and column do not tell.
 *
 * @param {Cell} cell
 * @param {Set<keyof Settings>} keys
 * @returns {string}
 */
export function captionOf(cell, keys) {
  const spelt = (/** @type {keyof Settings} */ key) =>
    NUMBERS.has(key) ? `${say(WORDS[key])} ` : "";
  const parts = KEYS.filter((key) => keys.has(key) && cell.settings[key] != null);
  return parts.map((key) => spelt(key) + shown(key, cell.settings[key])).join(" · ");
}

/**
 * The line under an image that says its tokens, and how far it is beyond the trained size: as
 * numbers with what they count, which a narrow column leaves out.
 *
 * @param {Cell} cell
 * @returns {{number: string, unit: string}[]}
 */
export function countsOf({ tokens, side_factor }) {
  const counts = tokens == null ? [] : [{ number: String(tokens), unit: "tokens" }];
  const isLong = side_factor != null && side_factor > 1;
  return isLong ? [...counts, { number: `${short(side_factor)}×`, unit: "trained side" }] : counts;
}

/**
 * @param {Cell} cell
 * @returns {string} its tokens, and its size as a multiple of the trained one
 */
export function measuresOf(cell) {
  const { factor } = cell;
  const [tokens, side] = countsOf(cell).map(({ number, unit }) => `${number} ${say(unit)}`);
  return [tokens, factor != null && `${short(factor)}× ${say("trained tokens")}`, side]
    .filter(Boolean)
    .join(" · ");
}

/**
 * @param {Cell} cell
 * @returns {boolean} whether it is larger than what the model was trained on
 */
export function isBeyond({ factor, side_factor }) {
  return Math.max(factor ?? 1, side_factor ?? 1) > 1;
}

/** @param {number} factor */
function short(factor) {
  return factor.toFixed(2).replace(/\.?0+$/, "");
}

/**
 * @param {Comparison} comparison
 * @param {Cell} cell
 * @returns {string} its row and column, or its size where neither has a name
 */
export function nameOf(comparison, cell) {
  const names = [comparison.rows[cell.row], comparison.columns[cell.column]];
  return names.filter(Boolean).join(" · ") || sizeOf(cell);
}

/**
 * @param {Cell} cell
 * @returns {string} its settings as text, one per line
 */
export function textOf(cell) {
  const lines = settingsOf(cell).map(({ word, value }) => `${word}: ${value}`);
  if (cell.tokens != null) lines.push(`tokens: ${cell.tokens}`);
  if (cell.factor != null) lines.push(`times the trained tokens: ${cell.factor}`);
  if (cell.side_factor != null) lines.push(`times the trained side: ${cell.side_factor}`);
  return lines.join("\n");
}

/**
 * A name that Windows, macOS and Linux accept, with the suffix of the cell's file.
 *
 * @param {Comparison} comparison
 * @param {Cell} cell
 * @returns {string}
 */
export function fileNameOf(comparison, cell) {
  const { class: label, method, seed } = cell.settings;
  const parts = [label ?? nameOf(comparison, cell), sizeOf(cell), method];
  if (seed != null) parts.push(`seed ${seed}`);
  for (const key of untold(comparison.cells)) {
    if (!["class", "size", "method", "seed"].includes(key)) {
      parts.push(`${WORDS[key]} ${shown(key, cell.settings[key])}`);
    }
  }
  const suffix = cell.filename.match(/\.[a-z0-9]+$/i)?.[0] ?? ".png";
  return legal(parts.filter(Boolean).join(" ")) + suffix;
}

/** @param {string} name one that holds a size, and so is neither empty nor that of a device */
function legal(name) {
  return name
    .replace(/\s*·\s*/g, " ")
    .replace(/\s*×\s*/g, "x")
    // eslint-disable-next-line no-control-regex -- control characters are what is looked for
    .replace(/[<>:"/\\|?*\u0000-\u001f\u007f]/g, "_")
    .replace(/\s+/g, " ")
    .slice(0, LONGEST_NAME)
    .replace(/^[. ]+|[. ]+$/g, "");
}
