/** What can be done with one cell of a comparison: save, copy, use, open as a graph. */

import { openWorkflow, setAll, upstreamOf } from "./host/editing.js";
import { valueOf } from "./host/frontend.js";
import { element } from "./elements.js";
import { fileNameOf, textOf } from "./viewer_cells.js";
import { say } from "./words.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */
/** @typedef {import("./viewer_cells.js").Settings} Settings */

const EXACT = "exact size";
/** Until then the browser has read the copy. */
const REVOKE_MILLISECONDS = 60_000;
const DEFAULT_VAE = "fit_tiny_vae.safetensors";

/**
 * The inputs of nodes that a cell's settings belong to, by node type.
 *
 * A sweep keeps no axis, so that it draws this cell alone, but for a seed that only it can hold.
 *
 * @type {Record<string, (settings: Settings, cell: Cell) => Record<string, any>>}
 */
const INPUTS = {
  FiTLoader: ({ checkpoint }) => ({ checkpoint }),
  FiTClassLabel: (settings) => ({ text: settings.class }),
  FiTResolution: (_, { width, height }) => ({ aspect_ratio: EXACT, width, height }),
  FiTExtrapolation: ({ method, decoupled, attention_scale }) => ({
    method,
    decoupled,
    attention_scale,
  }),
  FiTSampler: sampling,
  FiTSweepSampler: sampling,
  FiTSolver: ({ solver }) => ({ solver }),
  FiTScheduler: ({ steps }) => ({ steps }),
  KSampler: ({ seed, steps, guidance_scale }) => ({
    seed: numberOf(seed),
    steps,
    cfg: guidance_scale,
  }),
  RandomNoise: ({ seed }) => ({ noise_seed: numberOf(seed) }),
  FiTResolutionSweep: (settings, { width, height }) => ({
    classes: settings.class,
    sizes: `${width}x${height}`,
    methods: methodOf(settings),
    attention_scales: "",
    seeds: typeof settings.seed === "string" ? settings.seed : "",
    steps: "",
    solvers: "",
    guidance_scales: "",
    checkpoints: "",
  }),
};

/** @param {Settings} settings */
function sampling({ seed, steps, solver, guidance_scale }) {
  return { seed: numberOf(seed), steps, solver, guidance: guidance_scale };
}

/** A seed for a widget of numbers, which is left as it is where the seed is too large for one. */
function numberOf(/** @type {Settings["seed"]} */ seed) {
  return typeof seed === "number" ? seed : undefined;
}

/** How a sweep spells a method. @param {Settings} settings */
function methodOf({ method, decoupled, attention_scale }) {
  if (method === undefined) return undefined;
  const axes = decoupled === false && method !== "none" ? " coupled" : "";
  const scale = attention_scale && attention_scale !== "none" ? ` + ${attention_scale}` : "";
  return method + axes + scale;
}

/**
 * Writes a cell's settings into the nodes that the comparison comes from; undo takes it back.
 *
 * @param {any} node the comparison
 * @param {Cell} cell
 * @returns {string} what was done
 */
export function useCell(node, cell) {
  const changes = new Map();
  for (const source of upstreamOf(node)) {
    const inputs = INPUTS[source.comfyClass];
    if (inputs) changes.set(source, inputs(cell.settings, cell));
  }
  if (!changes.size) return say("Nothing was changed: no node before this one has such settings.");
  const count = setAll(changes);
  if (!count) {
    return say("Nothing was changed: the nodes before this one have these settings already.");
  }
  if (count === 1) return say("1 node was set. Ctrl+Z takes it back.");
  return say("{count} nodes were set. Ctrl+Z takes it back.", { count });
}

/**
 * Opens a new workflow that draws one cell. What is not known of it is taken from the nodes that
 * the comparison comes from.
 *
 * @param {any} node the comparison
 * @param {Cell} cell
 * @returns {Promise<string>} what was done
 */
export async function openAsGraph(node, cell) {
  const upstream = upstreamOf(node);
  const held = (/** @type {string} */ type, /** @type {string} */ input) => {
    const source = upstream.find((each) => each.comfyClass === type);
    return source && valueOf(source, input);
  };
  const sampled = (/** @type {string} */ input) =>
    held("FiTSweepSampler", input) ?? held("FiTSampler", input);
  const settings = {
    checkpoint: held("FiTLoader", "checkpoint"),
    seed: sampled("seed"),
    steps: sampled("steps"),
    solver: sampled("solver"),
    guidance_scale: sampled("guidance"),
    ...cell.settings,
  };
  const values = (/** @type {string} */ type) => INPUTS[type](settings, cell);
  try {
    await openWorkflow([
      { type: "FiTLoader", column: 0, values: values("FiTLoader") },
      {
        type: "VAELoader",
        column: 0,
        values: { vae_name: held("VAELoader", "vae_name") ?? DEFAULT_VAE },
      },
      {
        type: "FiTClassLabel",
        column: 1,
        values: values("FiTClassLabel"),
        links: { model: [0, 0] },
      },
      {
        type: "FiTResolution",
        column: 1,
        values: values("FiTResolution"),
        links: { model: [0, 0] },
      },
      {
        type: "FiTExtrapolation",
        column: 1,
        values: values("FiTExtrapolation"),
        links: { model: [0, 0], latent: [3, 0] },
      },
      {
        type: "FiTSampler",
        column: 2,
        values: values("FiTSampler"),
        links: { model: [4, 0], positive: [2, 0], negative: [2, 1], latent: [3, 0] },
      },
      { type: "VAEDecode", column: 3, links: { samples: [5, 0], vae: [1, 0] } },
      { type: "PreviewImage", column: 3, links: { images: [6, 0] } },
    ]);
    const { seed } = settings;
    // The host's field of a seed holds no number of that size.
    return typeof seed === "string"
      ? say("Opened in a new workflow, without the seed {seed}: it is too large.", { seed })
      : say("Opened in a new workflow.");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return say("No graph was made: {reason}", { reason });
  }
}

/**
 * Saves a cell's image to the browser's folder of downloads, with a name that every system accepts.
 *
 * @param {Comparison} comparison
 * @param {Cell} cell
 * @param {string} url
 * @returns {Promise<string>} what was done
 */
export async function saveCell(comparison, cell, url) {
  const response = await fetch(url);
  if (!response.ok) return say("The image is no longer there: run the workflow again.");
  // The server names the file of its own address, so the link leads to a copy.
  const href = URL.createObjectURL(await response.blob());
  const name = fileNameOf(comparison, cell);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), REVOKE_MILLISECONDS);
  return say("Saved as {name}", { name });
}

/**
 * @param {Cell} cell
 * @param {HTMLElement} near where a text can be selected, for pages that have no clipboard
 * @returns {Promise<string>} what was done
 */
export async function copySettings(cell, near) {
  const text = textOf(cell);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page that is served without encryption to another machine has no clipboard.
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    const area = element("textarea", { readonly: true }, text);
    near.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
  return say("The settings are on the clipboard.");
}
