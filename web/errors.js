/** Shows what a node says when it fails in the pack: the frontend's own notice leaves it out. */

import { onError, toast } from "./host/frontend.js";

/** The folder of the pack, as the server calls it in addresses and in paths. */
const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2) ?? "");

/** Tells each error once, in the message's own words. */
export function showErrors() {
  onError(({ node_type, node_title, exception_message, traceback }) => {
    const text = exception_message?.trim();
    if (text && (node_type?.startsWith("FiT") || isRaisedByUs(traceback))) {
      toast("error", node_title, text);
    }
  });
}

/** Whether an error of another node, such as KSampler, comes from code of the pack. */
function isRaisedByUs(/** @type {string[] | undefined} */ traceback) {
  const [last] = traceback?.slice(-1) ?? [];
  return last?.replaceAll("\\", "/").includes(`/custom_nodes/${PACK}/`) ?? false;
}
