/** Warnings of a run as messages, because a node shows its own text only while it is in view. */

import { onWarning, toast } from "./host/frontend.js";

export function showWarnings() {
  onWarning(({ text }) => toast("warn", "FiT", text));
}
