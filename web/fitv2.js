/** The browser's side of the pack: which node gets which widget. */

import { completeWhileTyping } from "./class_complete.js";
import { addClassPicker } from "./class_picker.js";
import { onTyping, register } from "./host/frontend.js";

/** @param {any} node @param {string} input with the typed classes */
function addClasses(node, input) {
  addClassPicker(node, input);
  onTyping(node, input, (field) => completeWhileTyping(node, input, field));
}

register({
  FiTClassLabel: (node) => addClasses(node, "text"),
  FiTResolutionSweep: (node) => addClasses(node, "classes"),
});
