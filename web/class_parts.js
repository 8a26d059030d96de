/** Small pieces of the class picker: elements, buttons, faces of classes. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {Record<string, string>} [attributes]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, className, attributes = {}, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

/**
 * @param {string} className
 * @param {string} text
 * @param {(event: MouseEvent) => void} onClick
 * @param {string} [label] what it is called where the text does not say it
 * @returns {HTMLButtonElement}
 */
export function button(className, text, onClick, label = "") {
  const made = element("button", className, { type: "button" }, text);
  if (label) made.setAttribute("aria-label", label);
  if (label) made.title = label;
  made.addEventListener("click", onClick);
  return made;
}

/**
 * The thumbnail of a class, or of a blend's classes side by side, each as wide as its weight.
 *
 * @param {import("./class_names.js").Classes | null} classes
 * @param {import("./class_names.js").Part[]} parts
 * @returns {HTMLElement[]} none where there are no thumbnails
 */
export function faces(classes, parts) {
  if (!classes?.sheet || !parts.length) return [];
  const face = element("span", "fitv2-class-face", { "aria-hidden": "true" });
  face.style.aspectRatio = String(classes.sheet.ratio);
  for (const { id, weight } of parts) {
    const slice = element("span", "fitv2-class-face-slice");
    slice.style.flexGrow = String(weight);
    const picture = element("span", "fitv2-class-face-picture");
    picture.style.aspectRatio = String(classes.sheet.ratio);
    classes.paint(picture, id);
    slice.append(picture);
    face.append(slice);
  }
  return [face];
}
