/** Changes of the graph that a widget makes for its user, each one step of undo. */

import { app } from "/scripts/app.js";
import { sourceOf } from "./links.js";
import { isLinked, setValues, valueOf, widgetOf } from "./values.js";

/** The host's widget that changes a seed after each run. */
const SEED_CONTROL = "control_after_generate";
const COLUMN_WIDTH = 400;
/** Between the nodes of a column: the title of the next one, and some space. */
const GAP = 70;

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
 * @param {Map<any, Record<string, any>>} changes by node, then by name of the input; a value that
 *   is undefined and an input that a node lacks or that is connected are left out
 * @returns {number} how many nodes were changed
 */
export function setAll(changes) {
  let changed = 0;
  inOneStep(() => {
    for (const [node, values] of changes) {
      const entries = Object.entries(values).filter(
        ([name, value]) => value !== undefined && widgetOf(node, name) && !isLinked(node, name),
      );
      if (entries.some(([name]) => name.endsWith("seed"))) entries.push([SEED_CONTROL, "fixed"]);
      if (entries.every(([name, value]) => [undefined, value].includes(valueOf(node, name)))) {
        continue;
      }
      setValues(node, Object.fromEntries(entries));
      changed += 1;
    }
  });
  return changed;
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
  const { LiteGraph } = /** @type {any} */ (globalThis);
  const missing = plan.find(({ type }) => !(type in LiteGraph.registered_node_types));
  if (missing) throw new Error(`This ComfyUI has no node ${missing.type}.`);
  await app.extensionManager.command.execute("Comfy.NewBlankWorkflow");
  const nodes = plan.map(({ type }) => LiteGraph.createNode(type));
  const place = () => {
    const bottoms = new Map();
    plan.forEach(({ column }, index) => {
      const top = bottoms.get(column) ?? 0;
      nodes[index].pos = [column * COLUMN_WIDTH, top];
      bottoms.set(column, top + nodes[index].size[1] + GAP);
    });
  };
  inOneStep(() => {
    for (const node of nodes) app.graph.add(node);
    plan.forEach(({ values = {}, links = {} }, index) => {
      for (const [input, [source, output]] of Object.entries(links)) {
        nodes[source].connect(output, nodes[index], nodes[index].findInputSlot(input));
      }
      setAll(new Map([[nodes[index], values]]));
    });
    place();
  });
  await drawn();
  inOneStep(place); // Nodes 2.0 knows their heights now
  await drawn();
  app.canvas.deselectAll();
  await app.extensionManager.command.execute("Comfy.Canvas.FitView");
}

/** Two frames later, when widgets have been added and nodes measured. */
async function drawn() {
  for (let frame = 0; frame < 2; frame += 1) {
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
}
