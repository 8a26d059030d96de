/** Changes of the graph that a widget makes for its user, each one step of undo. */

import { app } from "/scripts/app.js";
import { setValues, sourceOf, widgetOf } from "./frontend.js";

const LITEGRAPH = /** @type {any} */ (globalThis);
const COLUMN_WIDTH = 340;
const ROW_HEIGHT = 60;

/**
 * All nodes that a node's result comes from, the nearest first.
 *
 * @param {any} node
 * @returns {any[]} without the node itself
 */
export function upstreamOf(node) {
  const found = new Set([node]);
  for (const at of found) {
    for (const { name } of at.inputs ?? []) {
      const source = sourceOf(at, name);
      if (source) found.add(source);
    }
  }
  found.delete(node);
  return [...found];
}

/**
 * Sets widgets of several nodes. A seed is kept from changing after the next run.
 *
 * @param {Map<any, Record<string, any>>} changes by node, then by name of the input; inputs that a
 *   node lacks or that are connected are left out
 * @returns {number} how many nodes were changed
 */
export function setAll(changes) {
  let changed = 0;
  inOneStep(() => {
    for (const [node, values] of changes) {
      const possible = Object.entries(values).filter(
        ([name, value]) =>
          value !== undefined && widgetOf(node, name) && !sourceOf(node, name),
      );
      for (const [name] of possible) fixSeed(node, name, possible);
      if (!possible.some(([name, value]) => widgetOf(node, name)?.value !== value)) continue;
      setValues(node, Object.fromEntries(possible));
      changed += 1;
    }
  });
  return changed;
}

/**
 * @param {any} node
 * @param {string} name
 * @param {[string, any][]} values
 */
function fixSeed(node, name, values) {
  const control = widgetOf(node, "control_after_generate");
  if (name.endsWith("seed") && control) values.push([control.name, "fixed"]);
}

/** @param {() => void} edit */
function inOneStep(edit) {
  app.canvas.emitBeforeChange();
  try {
    edit();
  } finally {
    app.canvas.emitAfterChange();
  }
}

/**
 * Opens a new workflow with these nodes.
 *
 * @param {{type: string, values?: Record<string, any>, column: number,
 *   links?: Record<string, [number, number]>}[]} plan links name, by input, the place of the source
 *   in the plan and the number of its output
 * @returns {Promise<void>} rejects with an Error where the host lacks a type
 */
export async function openWorkflow(plan) {
  const { LiteGraph } = LITEGRAPH;
  const missing = plan.find(({ type }) => !(type in LiteGraph.registered_node_types));
  if (missing) throw new Error(`This ComfyUI has no node ${missing.type}.`);
  await app.extensionManager.command.execute("Comfy.NewBlankWorkflow");
  inOneStep(() => {
    const nodes = plan.map(({ type }) => LiteGraph.createNode(type));
    const bottoms = new Map();
    plan.forEach(({ values = {}, column, links = {} }, place) => {
      const node = nodes[place];
      app.graph.add(node);
      for (const [input, [source, output]] of Object.entries(links)) {
        nodes[source].connect(output, node, node.findInputSlot(input));
      }
      const known = Object.entries(values).filter(([, value]) => value !== undefined);
      setAll(new Map([[node, Object.fromEntries(known)]]));
      node.pos = [column * COLUMN_WIDTH, bottoms.get(column) ?? 0];
      bottoms.set(column, node.pos[1] + node.size[1] + ROW_HEIGHT);
    });
  });
  app.canvas.selectItems?.([]);
  await app.extensionManager.command.execute("Comfy.Canvas.FitView");
}
