/** The extension of the pack: which widget each node gets. Without it every node still works. */

import {
  showInputsOfResolution,
  showInputsOfScheduler,
  showInputsOfSolver,
} from "./applicable_inputs.js";
import { showErrors } from "./errors.js";
import { register, sortTemplates } from "./host/frontend.js";
import { addShapePad } from "./shape_pad.js";

register(
  {
    FiTResolution: [showInputsOfResolution, addShapePad],
    FiTScheduler: [showInputsOfScheduler],
    FiTSolver: [showInputsOfSolver],
  },
  showErrors,
);
sortTemplates();
