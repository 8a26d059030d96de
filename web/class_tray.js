/** What is chosen in the dialog of classes: chips, or the sliders of a blend. */

import { button, element, faces } from "./class_parts.js";
import { say } from "./words.js";

/**
 * @typedef {import("./class_names.js").Classes} Classes
 * @typedef {import("./class_names.js").Part} Part
 * @typedef {{text: string, parts: Part[] | null}} Entry parts: null where no class is called so
 * @typedef {{id: number, share: number}} Share of a blend, in percent; the sum may be any
 */

/**
 * @param {Share[]} mix
 * @returns {Part[]}
 */
export function partsOfMix(mix) {
  const total = mix.reduce((sum, { share }) => sum + share, 0);
  return mix.map(({ id, share }) => ({ id, weight: share / total }));
}

/**
 * @param {Classes} classes
 * @param {Entry[]} entries
 * @param {(at: number) => void} onDrop gets the place of an entry to remove
 * @returns {HTMLElement[]}
 */
export function chosenChips(classes, entries, onDrop) {
  return entries.map(({ text, parts }, at) => {
    const chip = element("li", parts ? "fitv2-class-chip" : "fitv2-class-chip fitv2-class-wrong");
    const name = parts ? classes.shown(parts) : text;
    chip.append(
      ...faces(classes, parts ?? []),
      element("span", "fitv2-class-chip-name", {}, name),
      button("fitv2-class-remove", "×", () => onDrop(at), say("Remove {name}", { name })),
    );
    return chip;
  });
}

/**
 * @param {Classes} classes
 * @param {Share[]} mix its shares change as the sliders move
 * @param {(id: number) => void} onDrop gets the class to remove
 * @returns {HTMLElement[]}
 */
export function mixRows(classes, mix, onDrop) {
  const rows = mix.map((part) => {
    const name = classes.nameOf(part.id);
    const line = element("li", "fitv2-class-mix");
    const output = element("output", "fitv2-class-share");
    const slider = element("input", "fitv2-class-slider", {
      type: "range",
      min: "1",
      max: "100",
      value: String(part.share),
      "aria-label": say("Weight of {name}", { name }),
    });
    slider.addEventListener("input", () => {
      part.share = Number(slider.value);
      write();
    });
    line.append(
      ...faces(classes, [{ id: part.id, weight: 1 }]),
      element("span", "fitv2-class-chip-name", {}, name),
      slider,
      output,
      button("fitv2-class-remove", "×", () => onDrop(part.id), say("Remove {name}", { name })),
    );
    return { line, output, slider };
  });
  const write = () =>
    partsOfMix(mix).forEach(({ weight }, at) => {
      const text = `${Math.round(100 * weight)} %`;
      rows[at].output.textContent = text;
      rows[at].slider.setAttribute("aria-valuetext", text);
    });
  write();
  return rows.map(({ line }) => line);
}
