/** The links of a node, and the model that they lead to. */

import { app } from "/scripts/app.js";

import { isLinked, valueOf } from "./values.js";

/**
 * The inputs that say which model a node loads, by node type.
 *
 * @type {Record<string, string[]>}
 */
const LOADERS = { FiTLoader: ["checkpoint", "preset"], FiTTrainingRun: ["run", "average"] };
/** Modes of a node: never executed, and passed by. */
const MUTED = 2;
const BYPASSED = 4;

/**
 * Calls back when links to or from a node change.
 *
 * @param {any} node
 * @param {() => void} callback
 */
export function onLinksChange(node, callback) {
  const before = node.onConnectionsChange;
  node.onConnectionsChange = function (/** @type {any[]} */ ...rest) {
    before?.apply(this, rest);
    callback();
  };
}

/**
 * The node that feeds an input: past reroutes and bypassed nodes, into and out of subgraphs.
 *
 * @param {any} node
 * @param {string} name of an input
 * @returns {any} null where nothing is connected
 */
export function sourceOf(node, name) {
  const index = node.findInputSlot(name);
  return index < 0 ? null : (originOfInput(node, index, new Set())?.node ?? null);
}

/** @typedef {{node: any, value?: any} | null} Origin a node, and a value it holds for others */

/**
 * Where an input is fed from.
 *
 * @param {any} node
 * @param {number} index of the input
 * @param {Set<any>} seen inputs, as a graph may be a circle
 * @returns {Origin}
 */
function originOfInput(node, index, seen) {
  const input = node?.inputs?.[index];
  if (!input || !node.graph || seen.has(input)) return null;
  seen.add(input);
  // A node that stands for a subgraph has a getInputLink that looks into it: its own link is meant.
  const base = /** @type {any} */ (globalThis).LGraphNode.prototype;
  return originOfLink(node.graph, base.getInputLink.call(node, index), seen);
}

/**
 * @param {any} graph
 * @param {any} link
 * @param {Set<any>} seen
 * @returns {Origin}
 */
function originOfLink(graph, link, seen) {
  if (!link) return null;
  const node = graph.getNodeById(link.origin_id);
  if (node) return originOfOutput(node, link.origin_slot, link.type, seen);
  // The link comes from outside of this subgraph. Of several instances the first counts.
  const instance = instanceOf(graph);
  const widget = instance?.inputs[link.origin_slot];
  const outside = originOfInput(instance, link.origin_slot, seen);
  return outside ?? (widget ? { node: instance, value: valueOf(instance, widget.name) } : null);
}

/**
 * @param {any} node
 * @param {number} slot of the output
 * @param {string} type of the link
 * @param {Set<any>} seen
 * @returns {Origin}
 */
function originOfOutput(node, slot, type, seen) {
  if (node.mode === MUTED) return null;
  if (node.mode === BYPASSED) {
    const fits = (/** @type {any} */ input) => [type, "*"].includes(input?.type);
    const index = fits(node.inputs[slot]) ? slot : node.inputs.findIndex(fits);
    return originOfInput(node, index, seen);
  }
  if (node.subgraph) {
    const output = node.subgraph.outputNode?.slots?.[slot] ?? node.subgraph.outputs?.[slot];
    return originOfLink(node.subgraph, node.subgraph.getLink(output?.linkIds?.[0]), seen);
  }
  if (node.isVirtualNode && node.inputs?.length) return originOfInput(node, 0, seen);
  return { node, value: node.isVirtualNode ? node.widgets?.[0]?.value : undefined };
}

/** A node that stands for a subgraph, wherever it is. */
function instanceOf(/** @type {any} */ subgraph) {
  const root = subgraph.rootGraph ?? app.graph;
  const graphs = [root, ...(root.subgraphs?.values() ?? [])];
  return graphs.flatMap((graph) => graph.nodes).find((node) => node.subgraph === subgraph);
}

/** The value of an input, where it is known before the graph runs. */
function knownValue(/** @type {any} */ node, /** @type {string} */ name) {
  if (!isLinked(node, name)) return valueOf(node, name);
  return originOfInput(node, node.findInputSlot(name), new Set())?.value;
}

/**
 * What to ask a route with about the model that feeds an input of type MODEL, by following MODEL
 * links up to a FiT Loader or a FiT Training Run.
 *
 * @param {any} node
 * @returns {Record<string, string> | null} parameters for ``ask``; null where it is not known
 */
export function modelOf(node) {
  const seen = new Set();
  let at = node;
  while (at && !seen.has(at)) {
    const inputs = LOADERS[at.comfyClass];
    if (inputs) {
      const values = inputs.map((name) => [name, knownValue(at, name) ?? ""]);
      return inputs[0] === "checkpoint" && !values[0][1] ? null : Object.fromEntries(values);
    }
    seen.add(at);
    const input = at.inputs?.find((/** @type {any} */ input) => input.type === "MODEL");
    at = input ? sourceOf(at, input.name) : null;
  }
  return null;
}

/**
 * @param {any} node
 * @returns {string | null} the name in FiT Loader of the model that feeds it; null where it is not
 *   known, or comes from a training run
 */
export function checkpointOf(node) {
  return modelOf(node)?.checkpoint ?? null;
}

