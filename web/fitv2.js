/** The browser's side of the pack: which node gets which widget. */

import { register } from "./host/frontend.js";
import { showWarnings } from "./warnings.js";

register({});
showWarnings();
