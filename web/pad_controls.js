/** The buttons and fields of the shape pad, and the ratios on them. */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} className
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className) {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}

/** Controls beside each other, as one group. */
export function row(/** @type {string} */ name, /** @type {HTMLElement[]} */ controls) {
  const group = element("div", "fitv2-row");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", name);
  group.append(...controls);
  return group;
}

/** A button with a text, and a name that says what it does. */
export function button(
  /** @type {string} */ text,
  /** @type {string} */ title,
  /** @type {() => unknown} */ onClick,
) {
  const made = element("button", "fitv2-button");
  made.type = "button";
  made.title = title;
  made.textContent = text;
  made.setAttribute("aria-label", title);
  made.addEventListener("click", () => void onClick());
  return made;
}

/** A button for a ratio; ``showChip`` gives it its look. */
export function chip(/** @type {string} */ ratio, /** @type {() => unknown} */ onClick) {
  const made = button("", ratio, onClick);
  made.classList.add("fitv2-chip");
  const frame = element("span", "fitv2-frame");
  frame.append(element("span", "fitv2-icon"));
  made.append(frame, element("span", "fitv2-ratio"));
  return made;
}

/** Shows a chip with a ratio, as a small rectangle of it. */
export function showChip(
  /** @type {HTMLButtonElement} */ made,
  /** @type {string} */ ratio,
  /** @type {boolean} */ isChosen,
) {
  const [icon, label] = [".fitv2-icon", ".fitv2-ratio"].map(
    (name) => /** @type {HTMLElement} */ (made.querySelector(name)),
  );
  const [width, height] = ratio.split(":").map(Number);
  icon.style.aspectRatio = `${width} / ${height}`;
  icon.style[width >= height ? "width" : "height"] = "18px";
  icon.style[width >= height ? "height" : "width"] = "auto";
  label.textContent = ratio;
  made.setAttribute("aria-label", ratio);
  made.title = ratio;
  made.setAttribute("aria-pressed", String(isChosen));
}

/** The ratio of an image that is turned. */
export const reversed = (/** @type {string} */ ratio) => ratio.split(":").reverse().join(":");

/** Whether two ratios are one, such as 8:5 and 16:10. */
export function isSame(/** @type {string} */ one, /** @type {string} */ other) {
  const [a, b] = one.split(":").map(Number);
  const [c, d] = other.split(":").map(Number);
  return a * d === b * c;
}

/** A ratio of whole numbers, as short as it can be. */
export function ratioOf(/** @type {number} */ width, /** @type {number} */ height) {
  let [a, b] = [width, height];
  while (b) [a, b] = [b, a % b];
  return `${width / a}:${height / a}`;
}
