/** Inputs without an effect are hidden, by the choices in the others. They keep their values. */

import {
  addElement,
  ask,
  isLinked,
  onChange,
  onLinksChange,
  show,
  valueOf,
} from "./host/frontend.js";
import { say } from "./words.js";

/** @param {any} node a FiT Resolution */
export function showInputsOfResolution(node) {
  const update = () => {
    const ratio = valueOf(node, "aspect_ratio");
    const isExact = ratio === "exact size";
    show(node, {
      tokens: !isExact,
      width: isExact,
      height: isExact,
      custom_ratio: ratio === "custom ratio",
    });
  };
  onChange(node, "aspect_ratio", update);
  onLinksChange(node, update);
  update();
}

/** @param {any} node a FiT Solver */
export async function showInputsOfSolver(node) {
  /** @type {Record<string, string[]>} */
  let options;
  try {
    ({ solvers: options } = await ask("solvers"));
  } catch {
    return; // all inputs stay: they are ignored where they do not apply
  }
  const all = new Set(Object.values(options).flat());
  const update = () => {
    const own = options[valueOf(node, "solver")];
    if (own) show(node, Object.fromEntries([...all].map((name) => [name, own.includes(name)])));
  };
  onChange(node, "solver", update);
  onLinksChange(node, update);
  update();
}

/**
 * A reminder of the latent, where the schedule needs one and none is connected.
 *
 * @param {any} node a FiT Scheduler
 */
export function showInputsOfScheduler(node) {
  const reminder = document.createElement("div");
  reminder.className = "fitv2-reminder";
  reminder.textContent = say("Connect the latent: its size sets the shift.");
  addElement(node, "reminder", reminder, { minHeight: 44 });
  const update = () => {
    const isNeeded = valueOf(node, "schedule") !== "uniform";
    show(node, { reminder: isNeeded && !isLinked(node, "latent") });
  };
  onChange(node, "schedule", update);
  onLinksChange(node, update);
  update();
}
