/** The classes of a model: what they are called, how they are found, how they look. */

import { ask } from "./host/frontend.js";
import { say } from "./words.js";

/**
 * @typedef {Record<string, string>} Model what to ask a route to ask about it
 * @typedef {{id: number, name: string | null, synonyms: string[]}} ClassInfo
 * @typedef {{url: string, columns: number, rows: number, ratio: number}} Sheet ratio: the width of
 *   a tile over its height
 * @typedef {{id: number, weight: number}} Part weights of a blend add up to 1
 */

/** What separates entries, mixes classes, or follows an id: such a name is written with its id. */
const SIGNS = /[,;+*×·@"\n；，、]/;
const WEIGHT_DIGITS = 2;
const RELEASE_MILLISECONDS = 60_000;

/** @type {Map<string, Promise<Classes>>} */
const known = new Map();
/** Models whose file is being read again. @type {Map<string, Promise<Classes>>} */
const asked = new Map();

/**
 * The classes of a model. Asked for once, until {@link classesAgain}; a failure is forgotten, so
 * that the next call asks again.
 *
 * @param {Model} model
 * @returns {Promise<Classes>} rejects with an Error whose message the server wrote
 */
export function classesOf(model) {
  const key = JSON.stringify(model);
  let classes = known.get(key);
  if (!classes) {
    classes = read(model);
    classes.catch(() => known.delete(key));
    known.set(key, classes);
  }
  return classes;
}

/**
 * The classes of a model, from its file as it is now. Several calls at once are one question.
 *
 * @param {Model} model
 * @param {boolean} all with a new sheet too; else that is read only where the classes have changed
 * @returns {Promise<Classes>} the same object as before where nothing has changed
 */
export function classesAgain(model, all) {
  const key = JSON.stringify(model);
  const waiting = asked.get(key);
  if (waiting) return waiting;
  const before = known.get(key);
  const again = before && !all ? reread(model, before) : read(model);
  asked.set(key, again);
  const done = () => asked.delete(key);
  again.then(done, done);
  again.then(() => known.set(key, again)).catch(() => known.delete(key));
  Promise.all([before, again]).then(([old, now]) => old !== now && release(old)).catch(() => {});
  return again;
}

/** Frees the sheet of classes that are no longer used, when all pickers have drawn others. */
function release(/** @type {Classes | undefined} */ classes) {
  const url = classes?.sheet?.url;
  if (url) setTimeout(() => URL.revokeObjectURL(url), RELEASE_MILLISECONDS);
}

/** @param {Model} model @param {Promise<Classes>} before */
async function reread(model, before) {
  const [classes, answer] = await Promise.all([before, ask("model", model)]);
  const same = JSON.stringify(answer.classes) === JSON.stringify(classes.all);
  return same && answer.has_class_sheet === !!classes.sheet ? classes : make(model, answer);
}

/** @param {Model} model */
async function read(model) {
  return make(model, await ask("model", model));
}

/**
 * @param {Model} model
 * @param {any} answer of the route about the model
 */
async function make(model, answer) {
  const sheet = answer.has_class_sheet ? await readSheet(model, answer.classes.length) : null;
  return new Classes(model, answer.classes, sheet);
}

/**
 * @param {Model} model
 * @param {number} count of classes
 * @returns {Promise<Sheet | null>} null where the sheet cannot be read: names do without it
 */
async function readSheet(model, count) {
  try {
    const answer = await ask("class_sheet", model);
    const [, type, data] = answer.image.match(/^data:([^;]+);base64,(.*)$/s);
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type }));
    await Object.assign(new Image(), { src: url }).decode();
    return {
      url,
      columns: answer.columns,
      rows: Math.ceil(count / answer.columns),
      ratio: answer.tile_width / answer.tile_height,
    };
  } catch {
    return null;
  }
}

/** The classes of one model. */
export class Classes {
  /**
   * @param {Model} model
   * @param {ClassInfo[]} all by id
   * @param {Sheet | null} sheet
   */
  constructor(model, all, sheet) {
    this.model = model;
    /** What people call the model. */
    this.title = model.checkpoint ?? (model.run || say("the newest training run"));
    this.all = all;
    this.sheet = sheet;
    this.ids = all.map(({ id }) => id);
    this.keys = all.map(({ name, synonyms }) => {
      const keys = [name ?? "", ...(synonyms ?? [])].map(keyOf);
      return { keys, words: keys.join(" ").split(" ") };
    });
    /** How many classes a word names. @type {Map<string, number>} */
    this.sharers = new Map();
    for (const { keys } of this.keys) {
      for (const key of new Set(keys)) this.sharers.set(key, (this.sharers.get(key) ?? 0) + 1);
    }
  }

  /** @param {number} id @returns {string} for people */
  nameOf(id) {
    return this.all[id]?.name ?? say("Class {id}", { id });
  }

  /**
   * @param {Part[]} parts one class, or those of a blend
   * @returns {string} for people
   */
  shown(parts) {
    if (parts.length === 1) return this.nameOf(parts[0].id);
    return parts
      .map(({ id, weight }) => `${this.nameOf(id)} ${Math.round(100 * weight)} %`)
      .join(" + ");
  }

  /**
   * @param {number} id
   * @returns {string} what to type for a class: its name, with its id where that alone is not plain
   */
  typed(id) {
    const name = this.all[id]?.name;
    if (name == null || name === "") return String(id);
    const key = keyOf(name);
    const isPlain = !SIGNS.test(name) && /\p{L}/u.test(name) && this.sharers.get(key) === 1;
    return isPlain && name === name.trim() ? name : `${id} · ${name}`;
  }

  /**
   * @param {Part[]} parts one class, or those of a blend
   * @returns {string} what to type for them
   */
  typedBlend(parts) {
    if (parts.length === 1) return this.typed(parts[0].id);
    const even = parts.every(({ weight }) => Math.abs(weight - parts[0].weight) < 1e-6);
    return parts
      .map(({ id, weight }) =>
        even ? this.typed(id) : `${Number(weight.toFixed(WEIGHT_DIGITS))}*${this.typed(id)}`,
      )
      .join(" + ");
  }

  /**
   * @param {string} typed part of a name, a synonym or an id
   * @param {number} [limit]
   * @returns {number[]} ids of the classes that it may mean, the best first; all for an empty text
   */
  search(typed, limit = Infinity) {
    const wanted = keyOf(typed);
    if (!wanted) return limit < this.ids.length ? this.ids.slice(0, limit) : this.ids;
    const words = wanted.split(" ");
    /** @type {[number, number, number][]} */
    const found = [];
    this.keys.forEach((entry, id) => {
      const rank = rankOf(entry, id, wanted, words);
      if (rank !== null) found.push([rank, entry.keys[0].length, id]);
    });
    found.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
    return found.slice(0, limit).map(([, , id]) => id);
  }

  /**
   * Shows a class' thumbnail as the background of an element of the sheet's ratio.
   *
   * @param {HTMLElement} element
   * @param {number} id
   */
  paint(element, id) {
    const sheet = this.sheet;
    if (!sheet) return;
    const { columns, rows } = sheet;
    const x = along(id % columns, columns);
    const y = along(Math.floor(id / columns), rows);
    element.style.backgroundImage = `url("${sheet.url}")`;
    element.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    element.style.backgroundPosition = `${x}% ${y}%`;
  }
}

/**
 * How well a class fits what was typed: an exact id, then names, then synonyms; whole ones before
 * beginnings, and these before words in the middle.
 *
 * @param {{keys: string[], words: string[]}} entry
 * @param {number} id
 * @param {string} wanted
 * @param {string[]} words of what was typed
 * @returns {number | null} lower is better; null where it does not fit
 */
function rankOf({ keys, words: own }, id, wanted, words) {
  if (String(id) === wanted) return 0;
  const [name, ...synonyms] = keys;
  if (name === wanted) return 1;
  if (synonyms.includes(wanted)) return 2;
  if (name.startsWith(wanted)) return 3;
  if (name.includes(` ${wanted}`)) return 4;
  if (synonyms.some((key) => key.startsWith(wanted))) return 5;
  if (words.every((word) => own.some((key) => key.startsWith(word)))) return 6;
  if (keys.some((key) => key.includes(wanted))) return 7;
  return String(id).startsWith(wanted) ? 8 : null;
}

/** Where a tile lies along a side with this many, in percent as backgrounds are placed. */
function along(/** @type {number} */ at, /** @type {number} */ count) {
  return count > 1 ? (100 * at) / (count - 1) : 0;
}

/** @param {string} text @returns {string} without case, accents, underscores and extra spaces */
function keyOf(text) {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.replaceAll("_", " ").trim().replace(/\s+/g, " ");
}
