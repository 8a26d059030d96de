/**
 * What the widgets say, in the language of the page.
 *
 * The code says it in English, and words/ has the other languages by the English text. What the
 * server answers is in English.
 */

import { language } from "./host/frontend.js";
import { ja } from "./words/ja.js";
import { zh } from "./words/zh.js";

/** @type {Record<string, Record<string, string>>} */
const LANGUAGES = { ja, zh };

/**
 * @param {string} english with names in braces for what is put in
 * @param {Record<string, string | number>} [values] by these names
 * @returns {string} in English where the language has no words for it
 */
export function say(english, values = {}) {
  const told = LANGUAGES[language()]?.[english] ?? english;
  return told.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
