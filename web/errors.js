/** Shows what a node of the pack says when it fails: the frontend's own notice leaves it out. */

import { onError, toast } from "./host/frontend.js";

/** Tells each error once, in the message's own words. */
export function showErrors() {
  onError(({ node_type, node_title, exception_message }) => {
    const text = exception_message?.trim();
    if (node_type?.startsWith("FiT") && text) toast("error", node_title || node_type, text);
  });
}
