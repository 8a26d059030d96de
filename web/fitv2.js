/** The browser's side of the pack: which node gets which widget. */

import { register, sortTemplates } from "./host/frontend.js";

register({});
sortTemplates();
