/** What people have chosen in a viewer, kept while the page is loaded anew. */

/**
 * @typedef {{shape: string, view: string, scale: string, rows: number[], columns: number[],
 *   first: number[] | null, second: number[] | null}} Choice
 *   shape tells the comparison that it is of, rows and columns are hidden, A and B are places
 */

const PREFIX = "fitv2:viewer:";

/**
 * @param {string} place of the viewer, the same after a refresh
 * @param {Choice} choice
 */
export function keepChoice(place, choice) {
  try {
    sessionStorage.setItem(PREFIX + place, JSON.stringify(choice));
  } catch {
    // A browser without storage, or a full one: nothing is kept.
  }
}

/**
 * @param {string} place
 * @returns {Choice | null} null where there is none
 */
export function keptChoice(place) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + place) ?? "null");
  } catch {
    return null;
  }
}
