/**
 * The shape pad of FiT Resolution: its size as a grid of tokens, beside what the model was trained
 * on. The inputs of the node stay the truth: the pad reads them and sets them, and keeps nothing.
 */

import {
  addElement,
  ask,
  isLinked,
  loadedImages,
  modelOf,
  onChange,
  onGraphChange,
  onLinksChange,
  passToCanvas,
  setValues,
  valueOf,
  widgetOf,
} from "./host/frontend.js";
import {
  button,
  chip,
  element,
  isSame,
  ratioOf,
  reversed,
  row,
  showChip,
} from "./pad_controls.js";
import { createStage } from "./shape_stage.js";
import { say } from "./words.js";

/** Choices of the input ``aspect_ratio`` that are no ratios. */
const EXACT = "exact size";
const CUSTOM = "custom ratio";
const INPUTS = ["aspect_ratio", "tokens", "width", "height", "custom_ratio"];
const CHIPS = ["1:1", "3:2", "16:9", "2:1", "3:1"];
/** Sides as multiples of the trained one. */
const FACTORS = [1, 1.5, 2];
/** Beyond this multiple of the trained tokens an image is far beyond the training. */
const FAR = 4;
const WORDS = {
  within: "within the trained size ({count} tokens).",
  beyond: "beyond the trained size ({count} tokens).",
  far: "far beyond the trained size ({count} tokens).",
};
const WITH_MODEL = "dashed: trained on {count} tokens";
const WITHOUT_MODEL = "dashed: {count} tokens (no model)";
const HEIGHT = 264;

/** @typedef {{train_tokens: number, train_length: number, longest_trained_side: number,
 *   token_pixels: number}} Trained */

/**
 * @param {{columns: number, rows: number}} grid
 * @param {Trained} trained
 * @returns {"within" | "beyond" | "far"} how far an image is from the training
 */
export function levelOf({ columns, rows }, trained) {
  const tokens = columns * rows;
  if (tokens > FAR * trained.train_tokens) return "far";
  const isLong = Math.max(columns, rows) > trained.longest_trained_side;
  return tokens > trained.train_tokens || isLong ? "beyond" : "within";
}

/** @param {any} node a FiT Resolution */
export function addShapePad(node) {
  const longest = Math.floor((widgetOf(node, "width")?.options.max ?? 16384) / 16);
  const stage = createStage(drawn, cancelled, longest);
  const facts = element("div", "fitv2-facts");
  facts.setAttribute("role", "status");
  const chips = CHIPS.map((ratio) => chip(ratio, () => choose(chipRatio(ratio))));
  const typed = element("input", "fitv2-typed");
  typed.type = "text";
  typed.placeholder = "W : H";
  typed.title = say("Any ratio such as 2.39:1, or a size such as 320x208. Enter takes it.");
  typed.setAttribute("aria-label", say("Ratio or size"));
  const swap = button("⇄", say("Swap width and height"), swapSides);
  swap.classList.add("fitv2-swap");
  const factors = FACTORS.map((factor) =>
    button(`${factor}×`, say("{factor} × the trained side", { factor }), () => scaleTo(factor)),
  );
  const asImage = button(say("as image"), say("The ratio of a Load Image"), takeImage);
  const root = element("div", "fitv2-pad");
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", say("Shape"));
  root.append(
    stage.element,
    facts,
    row(say("Ratio"), [...chips, swap]),
    row(say("Size"), [typed, ...factors, asImage]),
  );
  passToCanvas(root);

  /** @type {Trained | undefined} */
  let trained;
  let model = "";
  /** What is said of the model, where there is something to say. */
  let remark = "";
  let turn = 0;
  let images = 0;
  /** @type {{columns: number, rows: number} | undefined} */
  let grid;
  let error = "";
  /** The inputs as they were before a drag. @type {Record<string, any> | null} */
  let before = null;
  let isScheduled = false;

  function schedule() {
    if (isScheduled) return;
    isScheduled = true;
    queueMicrotask(() => {
      isScheduled = false;
      void refresh();
    });
  }

  const mode = () => String(valueOf(node, "aspect_ratio"));
  const tokens = () => Number(valueOf(node, "tokens"));
  /** What the inputs ask for, as a text that Python reads. */
  const wanted = () => {
    if (mode() === EXACT) return `${valueOf(node, "width")}x${valueOf(node, "height")}`;
    return mode() === CUSTOM ? String(valueOf(node, "custom_ratio")) : mode();
  };
  /**
   * It is read as the node reads it: a custom ratio is no size in pixels.
   *
   * @returns {Record<string, string>}
   */
  const question = () => (mode() === EXACT ? { ratios: wanted() } : { ratio: wanted() });
  const links = () => {
    const sides = mode() === EXACT ? ["width", "height"] : ["tokens"];
    const names = ["aspect_ratio", ...sides, ...(mode() === CUSTOM ? ["custom_ratio"] : [])];
    return names.filter((name) => isLinked(node, name));
  };
  const isPortrait = () => grid !== undefined && grid.rows > grid.columns;
  const chipRatio = (/** @type {string} */ ratio) => (isPortrait() ? reversed(ratio) : ratio);

  /** Reads the inputs and the model again, and draws. Of several at once the last counts. */
  async function refresh() {
    if (!node.graph) return; // it was removed
    const mine = ++turn;
    const asked = modelOf(node);
    const isOther = JSON.stringify(asked) !== model;
    const whole = wholeSize();
    if (whole && !isOther) {
      take(whole);
      return;
    }
    const [answers, facts] = await Promise.all([
      ask("sizes", { tokens: tokens(), ...question() }).catch(failed),
      isOther && asked ? ask("model", asked).catch(failed) : null,
    ]);
    if (mine !== turn || !node.graph) return;
    if (isOther && answers.unconnected) {
      model = JSON.stringify(asked);
      trained = facts?.train_tokens ? facts : answers.unconnected;
      remark = asked ? (facts?.error ?? "") : say("No model is connected.");
    }
    take(answers.sizes?.[0] ?? answers);
  }

  /** An exact size that needs no rounding, so that nothing is to be asked while it is drawn. */
  function wholeSize() {
    const [width, height] = [valueOf(node, "width"), valueOf(node, "height")];
    const isWhole = [width, height].every((side) => trained && side % trained.token_pixels === 0);
    return mode() === EXACT && isWhole ? { width, height } : null;
  }

  function take(/** @type {any} */ size) {
    error = size.error ?? "";
    const side = trained?.token_pixels;
    if (side && !error) grid = { columns: size.width / side, rows: size.height / side };
    draw();
  }

  function draw() {
    if (!trained) {
      tell(error, "far", "");
      return;
    }
    const linked = links();
    const shown = grid ?? { columns: trained.train_length, rows: trained.train_length };
    const level = levelOf(shown, trained);
    const count = shown.columns * shown.rows;
    const side = trained.token_pixels;
    const { columns, rows } = shown;
    const counted = say("{columns} × {rows} = {count} tokens", { columns, rows, count });
    const text =
      `${columns * side} × ${rows * side} px · ${counted} · ` +
      `${(count / trained.train_tokens).toFixed(2)}×`;
    const about = `${say(WORDS[level], { count: trained.train_tokens })} ${remark}`.trim();
    stage.draw({
      grid: shown,
      trainLength: trained.train_length,
      trainTokens: trained.train_tokens,
      budget: mode() === EXACT ? count : tokens(),
      level,
      note: say(model === "null" ? WITHOUT_MODEL : WITH_MODEL, { count: trained.train_tokens }),
      facts: `${text}, ${about}`,
      enabled: !linked.length,
    });
    stage.element.classList.toggle("fitv2-dim", error !== "");
    const inputs = linked.join(", ");
    if (inputs) tell(say("Set by a link: {inputs}", { inputs }), "none", "");
    else if (error) tell(error, "far", "");
    else tell(text, level, about);
    for (const [i, ratio] of CHIPS.entries()) {
      const now = chipRatio(ratio);
      const isChosen = mode() === now || (mode() === CUSTOM && wanted() === now);
      showChip(chips[i], now, isChosen);
    }
    for (const [i, factor] of FACTORS.entries()) {
      const isChosen = mode() !== EXACT && tokens() === budgetOf(factor);
      factors[i].setAttribute("aria-pressed", String(isChosen));
    }
    const found = loadedImages(node);
    const title = found.length
      ? say("The ratio of {name}", { name: found[images % found.length].title })
      : say("The ratio of a Load Image node: there is none in this graph");
    asImage.title = title;
    asImage.setAttribute("aria-label", title);
    asImage.disabled = !found.length || linked.length > 0;
    for (const control of [...chips, typed, swap, ...factors]) {
      control.disabled = linked.length > 0;
    }
  }

  function tell(
    /** @type {string} */ text,
    /** @type {string} */ level,
    /** @type {string} */ more,
  ) {
    if (facts.textContent !== text) facts.textContent = text;
    facts.dataset.level = level;
    facts.title = more;
    facts.setAttribute("aria-label", more ? `${text}, ${more}` : text);
  }

  /**
   * Takes a size that was drawn.
   *
   * @param {import("./shape_stage.js").Grid} next
   * @param {boolean} isLast whether the drag has ended
   */
  function drawn(next, isLast) {
    if (!trained) return;
    const side = trained.token_pixels;
    const size = { width: next.columns * side, height: next.rows * side, aspect_ratio: EXACT };
    before ??= Object.fromEntries(Object.keys(size).map((name) => [name, valueOf(node, name)]));
    setValues(node, size, { isLast });
    if (isLast) before = null;
  }

  /** Takes a drag back. */
  function cancelled() {
    if (before) setValues(node, before);
    before = null;
  }

  /**
   * @param {string} ratio
   * @param {Record<string, number>} [more] inputs to set with it
   */
  function choose(ratio, more = {}) {
    const choices = widgetOf(node, "aspect_ratio")?.options.values ?? [];
    const listed = choices.find((/** @type {string} */ choice) => isSame(choice, ratio));
    setValues(
      node,
      listed
        ? { ...more, aspect_ratio: listed }
        : { ...more, custom_ratio: ratio, aspect_ratio: CUSTOM },
    );
  }

  function swapSides() {
    if (mode() !== EXACT) choose(reversed(wanted()));
    else setValues(node, { width: valueOf(node, "height"), height: valueOf(node, "width") });
  }

  const budgetOf = (/** @type {number} */ factor) =>
    Math.round((trained?.train_tokens ?? 0) * factor ** 2);

  async function scaleTo(/** @type {number} */ factor) {
    if (mode() !== EXACT) {
      setValues(node, { tokens: budgetOf(factor) });
    } else if (grid) {
      const ratios = `${grid.columns}:${grid.rows}`;
      const { sizes } = await ask("sizes", { tokens: budgetOf(factor), ratios }).catch(failed);
      if (!sizes || sizes[0].error) return;
      setValues(node, { width: sizes[0].width, height: sizes[0].height });
    }
  }

  async function takeTyped() {
    // Full-width signs, as Chinese and Japanese keyboards type them, become plain ones.
    const text = typed.value.normalize("NFKC").replace(/\s/g, "");
    typed.removeAttribute("aria-invalid");
    if (!text) return;
    const answer = await ask("sizes", { tokens: tokens(), ratios: text }).catch(failed);
    const [size, ...more] = answer.sizes ?? [answer];
    if (size.error || more.length) {
      typed.setAttribute("aria-invalid", "true");
      tell(size.error ?? say("“{text}” is not one ratio.", { text }), "far", "");
      return;
    }
    typed.value = "";
    const [ratio, budget = tokens()] = text.split("@");
    const isListed = Number(budget) <= (widgetOf(node, "tokens")?.options.max ?? 0);
    if (ratio.includes(":") && isListed) choose(ratio, { tokens: Number(budget) });
    else setValues(node, { width: size.width, height: size.height, aspect_ratio: EXACT });
  }

  async function takeImage() {
    const found = loadedImages(node);
    if (!found.length) return;
    const picture = new Image();
    picture.src = found[images++ % found.length].url;
    try {
      await picture.decode();
    } catch {
      tell(say("The image could not be read."), "far", "");
      return;
    }
    choose(ratioOf(picture.naturalWidth, picture.naturalHeight));
  }

  typed.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") void takeTyped();
  });
  typed.addEventListener("change", () => void takeTyped());

  for (const name of INPUTS) onChange(node, name, schedule);
  onLinksChange(node, schedule);
  onGraphChange(node, schedule);
  addElement(node, "shape", root, { minHeight: HEIGHT, maxHeight: 2000, newWidth: 320 });
  schedule();
}

const failed = (/** @type {Error} */ error) => ({ error: error.message });
