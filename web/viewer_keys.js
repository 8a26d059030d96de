/** The keys of the viewer, by what they do. */

/** @type {Record<string, string>} */
const KEYS = {
  ArrowUp: "up",
  ArrowDown: "down",
  ArrowLeft: "left",
  ArrowRight: "right",
  Enter: "pick",
  " ": "pause",
  PageUp: "page up",
  PageDown: "page down",
  1: "1:1",
  0: "fit",
  "+": "larger",
  "=": "larger",
  "-": "smaller",
  t: "scale",
  h: "hide column",
  u: "show all",
  x: "swap",
  c: "copy",
  f: "full screen",
  g: "grid",
  o: "one",
  s: "slider",
  b: "blink",
  d: "difference",
  Escape: "back",
};

/**
 * @param {KeyboardEvent} event
 * @param {{inGrid: boolean, inPair: boolean}} where the keyboard is
 * @returns {string | undefined} what the key does there; undefined where it belongs to the page
 */
export function keyName(event, { inGrid, inPair }) {
  const { key, shiftKey } = event;
  if (key === "H") return "hide row";
  const name = KEYS[key.length === 1 ? key.toLowerCase() : key];
  const moves = ["up", "down", "left", "right", "pause", "page up", "page down"].includes(name);
  // Buttons and sliders keep the keys that they need.
  if (moves && !inGrid && !inPair) return undefined;
  if (name === "pick" && !inGrid) return undefined;
  if (name === "pause" && inGrid) return "pick";
  return shiftKey && key.length === 1 && /[a-z]/i.test(key) ? undefined : name;
}
