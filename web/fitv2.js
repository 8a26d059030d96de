/** The browser's side of the pack: which node gets which widget. */

import { setUpCompareViewer } from "./compare_viewer.js";
import { register } from "./host/frontend.js";

register({ FiTCompareSheet: setUpCompareViewer });
