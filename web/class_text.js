/** The text of a list of classes, as the server reads it. */

import { ask } from "./host/frontend.js";
import { say } from "./words.js";

/**
 * @typedef {{text: string, start: number, end: number, label: string | null, ids: number[],
 *   weights?: number[], error: string | null,
 *   nearest: {id: number, name: string | null}[]}} TextEntry start and end: places in the text
 */

const SEPARATORS = /[;；\n]/;
/** A pause of this many milliseconds in typing lets the server read the text. */
export const PAUSE = 200;

/**
 * @param {import("./class_names.js").Model} model
 * @param {string} text
 * @returns {Promise<TextEntry[]>} rejects with an Error whose message the server wrote
 */
export async function readText(model, text) {
  if (!text.trim()) return [];
  const { entries } = await ask("labels", { ...model, text });
  // Python counts characters, and JavaScript the units of UTF-16, of which some take two.
  const characters = [...text];
  const unit = (/** @type {number} */ count) => characters.slice(0, count).join("").length;
  return entries.map((/** @type {TextEntry} */ entry) => ({
    ...entry,
    start: unit(entry.start),
    end: unit(entry.end),
  }));
}

/**
 * @param {import("./class_names.js").Model} model
 * @param {string} typed what no class is called
 * @returns {Promise<number[]>} ids of the classes with the most similar names; none where the
 *   server cannot say
 */
export async function nearestClasses(model, typed) {
  try {
    const entries = await readText(model, typed);
    return [...new Set(entries.flatMap(({ nearest }) => nearest.map(({ id }) => id)))];
  } catch {
    return [];
  }
}

/**
 * The entries of a text of which no model is known: what stands between separators, unread.
 *
 * @param {string} text
 * @returns {TextEntry[]}
 */
export function unreadEntries(text) {
  const entries = [];
  let start = 0;
  for (const part of text.split(SEPARATORS)) {
    const typed = part.trim();
    const from = start + part.indexOf(typed);
    const place = { start: from, end: from + typed.length };
    const unread = { label: null, ids: [], error: null, nearest: [] };
    if (typed) entries.push({ text: typed, ...place, ...unread });
    start += part.length + 1;
  }
  return entries;
}

/**
 * @param {TextEntry} entry
 * @returns {import("./class_names.js").Part[] | null} null where it is no class
 */
export function partsOf({ ids, weights, error }) {
  if (error !== null || !ids.length) return null;
  return ids.map((id, at) => ({ id, weight: weights?.[at] ?? 1 / ids.length }));
}

/**
 * @param {string} typed what names no class, or more than one
 * @returns {string} for people; names to choose from follow it
 */
export function unclear(typed) {
  return say("“{typed}” is not clear. Did you mean:", { typed });
}

/**
 * The piece of a text that is being typed: what stands around the caret between separators, signs
 * of a blend, and weights.
 *
 * @param {string} text
 * @param {number} caret
 * @returns {{start: number, end: number, typed: string}}
 */
export function pieceAt(text, caret) {
  const before = text.slice(0, caret);
  const start = Math.max(...[";", "；", "\n", "+"].map((sign) => before.lastIndexOf(sign))) + 1;
  const rest = text.slice(caret).search(/[;；\n+]/);
  const end = rest < 0 ? text.length : caret + rest;
  const [lead] = /** @type {RegExpMatchArray} */ (
    text.slice(start, end).match(/^\s*([\d.]+\s*[*×]\s*)?/)
  );
  return { start: start + lead.length, end, typed: text.slice(start + lead.length, end).trim() };
}
