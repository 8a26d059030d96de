/** What nodes have put out: now, in an earlier run, and before the page was loaded anew. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

/** As many of the last runs are looked through. */
const RUNS = 64;
/** The frontend gives a reopened workflow its outputs after its nodes. */
const RESTORE_MILLISECONDS = 300;

/**
 * Leaves the host's own preview of a node's images out, in both renderers.
 *
 * @param {any} node one that shows them itself
 */
export function hidePreview(node) {
  node.hideOutputImages = true; // Nodes 2.0
  node.onDrawBackground = () => {}; // the classic canvas makes the preview there
}

/**
 * The last output of a node that is known: of the frontend, else of the server's history.
 *
 * @param {any} node
 * @param {string} key that the output must have
 * @returns {Promise<any>} null where there is none
 */
export async function lastOutput(node, key) {
  await new Promise((resolve) => setTimeout(resolve, RESTORE_MILLISECONDS));
  const isRoot = node.graph === app.rootGraph;
  const held = app.nodeOutputs?.[isRoot ? node.id : `${node.graph?.id}:${node.id}`];
  if (held?.[key]) return held;
  const path = pathOf(app.rootGraph, node);
  if (!path) return null;
  const response = await api.fetchApi(`/history?max_items=${RUNS}`);
  if (!response.ok) return null;
  const runs = Object.values(await response.json()).reverse();
  const run = runs.find(
    (/** @type {any} */ { prompt, outputs }) =>
      prompt?.[3]?.extra_pnginfo?.workflow?.id === app.rootGraph.id && outputs?.[path]?.[key],
  );
  return run ? /** @type {any} */ (run).outputs[path] : null;
}

/**
 * @param {any} node
 * @returns {string} where it is: in which workflow, and in which graph of that
 */
export function placeOf(node) {
  return `${app.rootGraph.id}:${node.graph?.id}:${node.id}`;
}

/**
 * The id of a node in a run: with those of the subgraphs that it lies in.
 *
 * @param {any} graph
 * @param {any} node
 * @returns {string | null} null where the node is not below the graph
 */
function pathOf(graph, node) {
  for (const each of graph?.nodes ?? []) {
    if (each === node) return String(node.id);
    const inner = each.subgraph && pathOf(each.subgraph, node);
    if (inner) return `${each.id}:${inner}`;
  }
  return null;
}
