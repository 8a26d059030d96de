/** The order of the pack's workflows in the template browser. */

import { api } from "/scripts/api.js";

/**
 * Lists the workflows of this pack by their names, which number them in the order of learning.
 *
 * The server has no order, and the frontend no hook for one, so what it asks is wrapped. Wrappers
 * of other packs still work, because this one changes nothing but the order of our own list.
 */
export function sortTemplates() {
  const pack = decodeURIComponent(new URL("..", import.meta.url).pathname.split("/").at(-2) ?? "");
  const before = api.getWorkflowTemplates;
  api.getWorkflowTemplates = async function (/** @type {any[]} */ ...rest) {
    const templates = await before.apply(this, rest);
    templates[pack]?.sort((/** @type {string} */ a, /** @type {string} */ b) =>
      a.localeCompare(b, "en", { numeric: true }),
    );
    return templates;
  };
}
