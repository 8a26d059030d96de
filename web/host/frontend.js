/**
 * The only contact with ComfyUI's frontend: its app, its API and its node objects.
 *
 * Widgets of this pack import from here alone, so that a change of the frontend is met in this
 * folder. It works on the classic canvas and in Nodes 2.0.
 */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

import { valueOf, widgetOf } from "./values.js";

export * from "./links.js";
export * from "./typing.js";
export * from "./values.js";

/** Packs share the names of extensions, so each begins with that of its pack. */
const EXTENSION = "fitv2.widgets";
/** Nodes whose size and values come from a workflow or the clipboard. */
const configured = new WeakSet();
/** What is called when people refresh the lists of files. @type {Set<() => void>} */
const refreshed = new Set();
/** Characters of a query; what is longer is posted, for servers limit an address. */
const LONGEST_QUERY = 4000;

/**
 * Registers the extension of the pack; a second call does nothing.
 *
 * @param {Record<string, ((node: any) => void) | ((node: any) => void)[]>} setUps functions by node
 *   type; each gets a node of that type once, after its values were read from the workflow
 * @param {() => void} [onStart] called once, when the frontend is ready
 */
export function register(setUps, onStart) {
  if (app.extensions.some((/** @type {any} */ { name }) => name === EXTENSION)) return;
  app.registerExtension({
    name: EXTENSION,
    setup: onStart,
    refreshComboInNodes: () => refreshed.forEach((callback) => callback()),
    nodeCreated(/** @type {any} */ node) {
      const functions = [setUps[node.comfyClass] ?? []].flat();
      // The frontend creates a node first and gives it its values afterwards.
      if (!functions.length) return;
      const { onConfigure } = node;
      node.onConfigure = function (/** @type {any[]} */ ...rest) {
        configured.add(node);
        return onConfigure?.apply(this, rest);
      };
      queueMicrotask(() => functions.forEach((setUp) => setUp(node)));
    },
  });
}

/**
 * Lets the value of an input of a new node stay after a run, until a person chooses otherwise.
 *
 * @param {any} node
 * @param {string} name of an input that the frontend changes after each run
 */
export function keepAfterRuns(node, name) {
  if (configured.has(node)) return;
  const [control] = widgetOf(node, name)?.linkedWidgets ?? [];
  if (control) control.value = "fixed";
}

/** @returns {string} the language of the page, such as "en", "zh" or "ja" */
export function language() {
  return String(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en");
}

/** The style sheet of all widgets; each brings it along, as the page is not ours. */
function styleSheet() {
  const href = new URL("../fitv2.css", import.meta.url).href;
  return Object.assign(document.createElement("link"), { rel: "stylesheet", href });
}

/**
 * Puts an element into a node as a widget that is stored neither in workflows nor in prompts.
 *
 * @param {any} node
 * @param {string} name
 * @param {HTMLElement} element
 * @param {{minHeight: number, maxHeight?: number, newWidth?: number}} size in CSS pixels; a new
 *   node becomes as wide as ``newWidth``, and one of a workflow keeps its width
 * @returns {any} the widget
 */
export function addElement(node, name, element, { minHeight, maxHeight, newWidth = 0 }) {
  element.prepend(styleSheet());
  const widget = node.addDOMWidget(name, "fitv2", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => minHeight,
    getMaxHeight: () => maxHeight ?? minHeight,
  });
  widget.serialize = false;
  const [width, height] = node.computeSize();
  if (configured.has(node)) node.setSize([node.size[0], Math.max(node.size[1], height)]);
  else node.setSize([Math.max(width, newWidth), height]);
  return widget;
}

/**
 * Calls back after any change of the graph, until the node is removed.
 *
 * @param {any} node
 * @param {() => void} callback
 */
export function onGraphChange(node, callback) {
  api.addEventListener("graphChanged", callback);
  const before = node.onRemoved;
  node.onRemoved = function (/** @type {any[]} */ ...rest) {
    api.removeEventListener("graphChanged", callback);
    return before?.apply(this, rest);
  };
}

/**
 * Calls back when files that the server lists may have changed, until the node is removed.
 *
 * @param {any} node
 * @param {(asked: boolean) => void} callback gets whether people asked for it with the R key, and
 *   not only a run has ended
 */
export function onFilesChange(node, callback) {
  const afterRun = () => callback(false);
  const asked = () => callback(true);
  api.addEventListener("execution_success", afterRun);
  refreshed.add(asked);
  const before = node.onRemoved;
  node.onRemoved = function (/** @type {any[]} */ ...rest) {
    api.removeEventListener("execution_success", afterRun);
    refreshed.delete(asked);
    return before?.apply(this, rest);
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
 * @param {(error: {node_type: string, node_id: string, node_title: string,
 *   exception_type: string, exception_message: string, traceback: string[]}) => void} callback
 */
export function onError(callback) {
  api.addEventListener("execution_error", (/** @type {any} */ { detail }) => {
    const { LiteGraph } = /** @type {any} */ (globalThis);
    const type = LiteGraph.registered_node_types[detail.node_type];
    const node = app.graph.getNodeById(detail.node_id); // one in a subgraph is not found
    callback({ ...detail, node_title: node?.title ?? type?.title ?? detail.node_type });
  });
}

/** How long an error is shown, in milliseconds: the node stays marked after it. */
const ERROR_LIFE = 15_000;
/** The warnings that were shown last, by their text. @type {Map<string, any>} */
const warnings = new Map();

/**
 * Shows a message in the corner. A warning stays until it is closed: it is about images that come
 * minutes later, and nothing else tells of it. The same one again takes its place.
 *
 * @param {"warn" | "error"} severity
 * @param {string} summary
 * @param {string} detail
 */
export function toast(severity, summary, detail) {
  const toasts = app.extensionManager.toast;
  if (severity === "error") {
    toasts.add({ severity, summary, detail, life: ERROR_LIFE });
    return;
  }
  const before = warnings.get(detail);
  if (before) toasts.remove?.(before); // the newest frontends have no way to
  const warning = { severity, summary, detail };
  warnings.set(detail, warning);
  toasts.add(warning);
}

/** Whether a node shows an image that people upload, as Load Image does. */
function showsUpload(/** @type {any} */ node) {
  const { required = {}, optional = {} } = node.constructor.nodeData?.input ?? {};
  return !!{ ...optional, ...required }.image?.[1]?.image_upload && !!valueOf(node, "image");
}

/**
 * The uploaded images that nodes of a node's graph load, those of selected nodes first.
 *
 * @param {any} node
 * @returns {{title: string, url: string}[]}
 */
export function loadedImages(node) {
  const isSelected = (/** @type {any} */ n) => Number(app.canvas.selectedItems.has(n));
  return node.graph.nodes
    .filter(showsUpload)
    .sort((/** @type {any[]} */ ...two) => isSelected(two[1]) - isSelected(two[0]))
    .map((/** @type {any} */ n) => {
      const path = String(valueOf(n, "image")).replace(/ \[\w+\]$/, "").split("/");
      const filename = path.pop() ?? "";
      const url = urlOf({ filename, subfolder: path.join("/"), type: "input" });
      return { title: filename, url };
    });
}

/**
 * Lets the wheel and the middle button move the canvas under an element, as they do beside it.
 *
 * @param {HTMLElement} element
 */
export function passToCanvas(element) {
  const isClassic = () => !element.closest("[data-node-id]");
  element.addEventListener("wheel", (event) => {
    if (isClassic()) app.canvas.processMouseWheel(event);
  });
  const methods = {
    pointerdown: "processMouseDown",
    pointermove: "processMouseMove",
    pointerup: "processMouseUp",
  };
  for (const [name, method] of Object.entries(methods)) {
    element.addEventListener(name, (/** @type {any} */ event) => {
      const isMiddle = name === "pointermove" ? event.buttons & 4 : event.button === 1;
      if (isMiddle && isClassic()) app.canvas[method](event);
    });
  }
}

/**
 * The JSON that a route of the pack answers.
 *
 * @param {"model" | "class_sheet" | "sizes" | "labels" | "solvers"} route
 * @param {Record<string, string | number>} [parameters]
 * @returns {Promise<any>} rejects with an Error whose message the server wrote
 */
export async function ask(route, parameters = {}) {
  const texts = Object.fromEntries(Object.entries(parameters).map(([k, v]) => [k, String(v)]));
  const query = String(new URLSearchParams(texts));
  const response =
    query.length < LONGEST_QUERY
      ? await fetch(api.apiURL(`/fitv2/${route}?${query}`))
      : await fetch(api.apiURL(`/fitv2/${route}`), { method: "POST", body: JSON.stringify(texts) });
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
