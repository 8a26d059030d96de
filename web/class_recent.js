/** Classes that were used lately, kept by this browser for each checkpoint. */

const KEY = "fitv2.recent_classes";
const KEPT = 8;

/**
 * @param {string} checkpoint
 * @returns {number[]} ids, the last used first
 */
export function recentClasses(checkpoint) {
  const ids = read()[checkpoint];
  return Array.isArray(ids) ? ids.filter(Number.isInteger) : [];
}

/**
 * @param {string} checkpoint
 * @param {number[]} ids that were used now
 */
export function remember(checkpoint, ids) {
  const kept = [...new Set([...ids, ...recentClasses(checkpoint)])].slice(0, KEPT);
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...read(), [checkpoint]: kept }));
  } catch {
    // A full or forbidden storage costs the list, nothing else.
  }
}

/** @returns {Record<string, any>} */
function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}
