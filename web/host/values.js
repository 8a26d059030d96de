/** The widgets of a node: their values, and whether they are shown. */

import { app } from "/scripts/app.js";

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
 * @param {any} node
 * @param {string} name of an input
 * @returns {boolean} whether its value comes from a link
 */
export function isLinked(node, name) {
  const index = node.findInputSlot(name);
  return index >= 0 && !!node.graph && node.isInputConnected(index);
}

/**
 * Sets widgets of a node, as one step of undo.
 *
 * @param {any} node
 * @param {Record<string, any>} values by name of the input
 * @param {{isLast?: boolean}} [step] with ``isLast: false`` more changes follow, as in a drag; the
 *   last of them ends the step of undo
 */
export function setValues(node, values, { isLast = true } = {}) {
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetOf(node, name);
    if (!widget || widget.value === value) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
  }
  node.graph?.setDirtyCanvas(true, true);
  if (isLast) keepForUndo();
}

/** Ends a step of undo. */
export function keepForUndo() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
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
  let last = widget.value;
  const check = () => {
    if (widget.value === last) return;
    last = widget.value;
    callback(last);
  };
  // People change a value through the callback, and scripts by assignment.
  const before = widget.callback;
  widget.callback = function (/** @type {any[]} */ ...rest) {
    const result = before?.apply(this, rest);
    check();
    return result;
  };
  const property = propertyOf(widget, "value");
  if (property?.configurable === false) return;
  let own = property?.value;
  Object.defineProperty(widget, "value", {
    configurable: true,
    enumerable: true,
    get() {
      return property?.get ? property.get.call(widget) : own;
    },
    set(value) {
      if (property?.set) property.set.call(widget, value);
      else own = value;
      check();
    },
  });
}

/** The property of an object or of what it inherits from. */
function propertyOf(/** @type {any} */ object, /** @type {string} */ name) {
  for (let at = object; at; at = Object.getPrototypeOf(at)) {
    const property = Object.getOwnPropertyDescriptor(at, name);
    if (property) return property;
  }
  return undefined;
}

let isPressed = false;
/**
 * What is to be shown once the pointer is released, by node.
 *
 * @type {Map<any, Record<string, boolean>>}
 */
const waiting = new Map();
addEventListener("pointerdown", () => (isPressed = true), true);
const released = () => {
  isPressed = false;
  for (const [node, shown] of waiting) show(node, shown);
  waiting.clear();
};
addEventListener("pointerup", released, true);
addEventListener("pointercancel", released, true);

/**
 * Shows or hides the widgets of inputs, in both renderers. Values are kept, and an input that is
 * linked stays. The node grows or shrinks by what it shows more or less, and waits with that until
 * nothing is dragged: it would be torn away from the pointer.
 *
 * @param {any} node
 * @param {Record<string, boolean>} shown by name of the input
 */
export function show(node, shown) {
  if (isPressed) {
    waiting.set(node, { ...waiting.get(node), ...shown });
    return;
  }
  const before = node.computeSize()[1];
  for (const [name, isShown] of Object.entries(shown)) {
    const widget = widgetOf(node, name);
    if (!widget) continue;
    const hidden = !isShown && !isLinked(node, name);
    if (!!widget.hidden === hidden) continue;
    widget.hidden = hidden; // the classic canvas
    (widget._state?.options ?? widget.options).hidden = hidden; // Nodes 2.0
  }
  const change = node.computeSize()[1] - before;
  if (change) node.setSize([node.size[0], node.size[1] + change]);
  node.graph?.setDirtyCanvas(true, true);
}
