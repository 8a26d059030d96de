/** Fields of the frontend in which people type the value of an input. */

import { app } from "/scripts/app.js";

import { widgetOf } from "./values.js";

/**
 * Calls back when people begin to type the value of a node's one-line text input: into the box that
 * the classic canvas opens, or into the field of Nodes 2.0.
 *
 * @param {any} node
 * @param {string} name of an input
 * @param {(field: HTMLInputElement | HTMLTextAreaElement) => void} callback
 */
export function onTyping(node, name, callback) {
  const widget = widgetOf(node, name);
  if (!widget) return;
  const onClick = widget.onClick;
  widget.onClick = function (/** @type {any[]} */ ...rest) {
    onClick?.apply(this, rest);
    const box = app.canvas.prompt_box;
    const field = box?.querySelector(".value");
    if (!field) return;
    callback(field);
    field.addEventListener("focus", () => callback(field));
    // The box opens under the pointer, so the second click of a double-click is one on its label.
    box.addEventListener("mousedown", (/** @type {MouseEvent} */ event) => {
      if (event.target !== field) event.preventDefault(); // the field keeps the focus
    });
  };
  const onFocus = (/** @type {FocusEvent} */ { target }) => {
    if (!(target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement)) return;
    const id = target.closest("[data-node-id]")?.getAttribute("data-node-id");
    if (id !== String(node.id) || target.ariaLabel !== name) return;
    if (app.canvas.graph === node.graph) callback(target);
  };
  // Fields come and go with Nodes 2.0; what holds the canvas and all nodes stays.
  const container = app.canvas.canvas.parentElement;
  container?.addEventListener("focusin", onFocus);
  const onRemoved = node.onRemoved;
  node.onRemoved = function (/** @type {any[]} */ ...rest) {
    container?.removeEventListener("focusin", onFocus);
    return onRemoved?.apply(this, rest);
  };
}
