/** The extension of the pack: which widget each node gets. Without it every node still works. */

import {
  showInputsOfResolution,
  showInputsOfScheduler,
  showInputsOfSolver,
} from "./applicable_inputs.js";
import { completeWhileTyping } from "./class_complete.js";
import { addClassPicker } from "./class_picker.js";
import { setUpCompareViewer } from "./compare_viewer.js";
import { showErrors } from "./errors.js";
import { keepAfterRuns, onTyping, register } from "./host/frontend.js";
import { addShapePad } from "./shape_pad.js";
import { showWarnings } from "./warnings.js";

/** @param {any} node @param {string} input with the typed classes */
function addClasses(node, input) {
  addClassPicker(node, input);
  onTyping(node, input, (field) => completeWhileTyping(node, input, field));
}

register(
  {
    FiTClassLabel: (node) => addClasses(node, "text"),
    FiTCompareSheet: [setUpCompareViewer],
    FiTResolution: [showInputsOfResolution, addShapePad],
    FiTResolutionSweep: (node) => addClasses(node, "classes"),
    FiTScheduler: [showInputsOfScheduler],
    FiTSolver: [showInputsOfSolver],
    // With another seed, none of the images that were drawn before could be kept.
    FiTSweepSampler: (node) => keepAfterRuns(node, "seed"),
  },
  () => {
    showErrors();
    showWarnings();
  },
);
