/**
 * The only contact with ComfyUI's frontend: its app, its API and its node objects.
 *
 * Widgets of this pack import from here alone, so that a change of the frontend is met in one file.
 * It works on the classic canvas and in Nodes 2.0.
 */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

const LOADERS = ["FiTLoader"];
/** Modes of a node: never executed, and passed by. */
const MUTED = 2;
const BYPASSED = 4;

/**
 * Registers the extension of the pack; a second call with the same name does nothing.
 *
 * @param {Record<string, (node: any) => void>} setUps functions by node type; each gets a node of
 *   that type once, after its values were read from the workflow
 */
export function register(setUps) {
  if (app.extensions.some((/** @type {any} */ extension) => extension.name === "fitv2")) return;
  addStyleSheet();
  app.registerExtension({
    name: "fitv2",
    nodeCreated(/** @type {any} */ node) {
      const setUp = setUps[node.comfyClass];
      // The frontend creates a node first and gives it its values afterwards.
      if (setUp) queueMicrotask(() => setUp(node));
    },
  });
}

function addStyleSheet() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("../fitv2.css", import.meta.url).href;
  document.head.append(link);
}

/**
 * Puts an element into a node as a widget that is stored neither in workflows nor in prompts.
 *
 * @param {any} node
 * @param {string} name
 * @param {HTMLElement} element
 * @param {{minHeight: number, maxHeight?: number}} size in CSS pixels
 * @returns {any} the widget
 */
export function addElement(node, name, element, { minHeight, maxHeight }) {
  const widget = node.addDOMWidget(name, "fitv2", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => minHeight,
    getMaxHeight: () => maxHeight ?? minHeight,
  });
  widget.serialize = false;
  return widget;
}

/**
 * @param {any} node
 * @param {string} name of an input
 * @returns {any} its widget, or undefined
 */
export function widgetOf(node, name) {
  return node.widgets?.find((/** @type {any} */ widget) => widget.name === name);
}

/**
 * @param {any} node
 * @param {string} name of an input
 * @returns {any} the value of its widget
 */
export function valueOf(node, name) {
  return widgetOf(node, name)?.value;
}

/**
 * Sets widgets of a node, as one step of undo.
 *
 * @param {any} node
 * @param {Record<string, any>} values by name of the input
 */
export function setValues(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetOf(node, name);
    if (!widget || widget.value === value) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
  }
  node.graph?.setDirtyCanvas(true, true);
  keepForUndo();
}

/** Ends a step of undo. */
export function keepForUndo() {
  const tracker = /** @type {any} */ (app).extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

/**
 * Calls back whenever the value of a widget changes, by whatever means.
 *
 * @param {any} node
 * @param {string} name of an input
 * @param {(value: any) => void} callback
 */
export function onChange(node, name, callback) {
  const widget = widgetOf(node, name);
  if (!widget) return;
  const before = widget.callback;
  widget.callback = function (/** @type {any[]} */ ...rest) {
    const result = before?.apply(this, rest);
    callback(widget.value);
    return result;
  };
}

/**
 * Shows or hides the widgets of inputs, in both renderers. Values are kept.
 *
 * @param {any} node
 * @param {Record<string, boolean>} shown by name of the input
 */
export function show(node, shown) {
  for (const [name, isShown] of Object.entries(shown)) {
    const widget = widgetOf(node, name);
    if (!widget) continue;
    widget.hidden = !isShown; // the classic canvas
    widget.options.hidden = !isShown; // Nodes 2.0
  }
  node.graph?.setDirtyCanvas(true, true);
}

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
 * Calls back with each output of a node that the server sends or the history holds.
 *
 * @param {any} node
 * @param {(output: any) => void} callback
 */
export function onOutput(node, callback) {
  const before = node.onExecuted;
  node.onExecuted = function (/** @type {any} */ output) {
    before?.call(this, output);
    callback(output);
  };
}

/**
 * Calls back when the server reports that a node failed.
 *
 * @param {(error: {node_type: string, node_id: string, exception_type: string,
 *   exception_message: string}) => void} callback
 */
export function onError(callback) {
  api.addEventListener("execution_error", (/** @type {any} */ event) => callback(event.detail));
}

/**
 * @param {"info" | "warn" | "error" | "success"} severity
 * @param {string} summary
 * @param {string} detail
 */
export function toast(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 15000 });
}

/**
 * The node that feeds an input: past reroutes and bypassed nodes, into and out of subgraphs.
 *
 * @param {any} node
 * @param {string} name of an input
 * @returns {any} null where nothing is connected
 */
export function sourceOf(node, name) {
  const slot = node.findInputSlot(name);
  const source = slot < 0 ? null : node.getInputNode(slot);
  if (!source || source.mode === MUTED) return null;
  if (source.mode === BYPASSED || source.isVirtualNode) {
    const input = source.inputs?.[0]?.name;
    return input === undefined ? null : sourceOf(source, input);
  }
  return source;
}

/**
 * The checkpoint that an input of type MODEL comes from, by following MODEL links.
 *
 * @param {any} node
 * @returns {string | null} its name in FiT Loader; null where it is not known
 */
export function checkpointOf(node) {
  const seen = new Set();
  let at = node;
  while (at && !seen.has(at)) {
    if (LOADERS.includes(at.comfyClass)) return valueOf(at, "checkpoint") ?? null;
    seen.add(at);
    const input = at.inputs?.find((/** @type {any} */ input) => input.type === "MODEL");
    at = input ? sourceOf(at, input.name) : null;
  }
  return null;
}

/**
 * The JSON that a route of the pack answers.
 *
 * @param {"model" | "class_sheet" | "sizes" | "labels"} route
 * @param {Record<string, string | number>} parameters
 * @returns {Promise<any>} rejects with an Error whose message the server wrote
 */
export async function ask(route, parameters) {
  const query = new URLSearchParams(Object.entries(parameters).map(([k, v]) => [k, String(v)]));
  const response = await fetch(api.apiURL(`/fitv2/${route}?${query}`));
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
  return answer;
}

/**
 * The address of a file that an output names.
 *
 * @param {{filename: string, subfolder: string, type: string}} file
 * @returns {string}
 */
export function urlOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/**
 * Calls back when the server warns of something in a run that goes on.
 *
 * @param {(warning: {node_id: string, text: string}) => void} callback
 */
export function onWarning(callback) {
  api.addEventListener("fitv2_warning", (/** @type {any} */ event) => callback(event.detail));
}
