/** Classes offered while their names are typed into a text field of the frontend. */

import { button, element, faces } from "./class_parts.js";
import { pickerOf } from "./class_picker.js";
import { PAUSE, pieceAt, readText, unclear } from "./class_text.js";
import { say } from "./words.js";

const MOST = 8;
const OFFERED = 3;
let made = 0;

/**
 * Offers classes as long as a field has the focus.
 *
 * @param {any} node
 * @param {string} input the name of the node's input that is being typed
 * @param {HTMLInputElement | HTMLTextAreaElement} field
 */
export function completeWhileTyping(node, input, field) {
  const picker = pickerOf(node, input);
  if (picker?.classes && !field.dataset.fitv2Completes) {
    new Completion(picker, field);
  }
}

class Completion {
  /**
   * @param {{classes: any, element: HTMLElement}} picker whose classes are known
   * @param {HTMLInputElement | HTMLTextAreaElement} field
   */
  constructor({ classes, element: owner }, field) {
    /** @type {import("./class_names.js").Classes} */
    this.classes = classes;
    this.field = field;
    this.prefix = `fitv2-class-offer-${made++}`;
    /** @type {number[]} */
    this.ids = [];
    this.active = -1;
    this.asked = 0;
    this.timer = 0;
    this.list = element("ul", "fitv2-class-offers", { role: "listbox", id: this.prefix });
    this.list.setAttribute("aria-label", say("Classes"));
    this.note = element("div", "fitv2-class-offers-note fitv2-class-error", { role: "status" });
    this.popup = element("div", "fitv2-class-completion", { popover: "manual" });
    this.popup.append(this.list, this.note);
    // The field keeps the focus when a name is clicked.
    for (const kind of ["pointerdown", "mousedown"]) {
      this.popup.addEventListener(kind, (event) => {
        event.preventDefault();
        event.stopPropagation(); // it is no press on the node
      });
    }
    owner.append(this.popup); // drawn above all, wherever it is in the page

    field.dataset.fitv2Completes = "yes";
    field.setAttribute("role", "combobox");
    field.setAttribute("aria-autocomplete", "list");
    field.setAttribute("aria-controls", this.prefix);
    field.setAttribute("aria-expanded", "false");
    field.autocomplete = "off";
    const ends = new AbortController();
    const { signal } = ends;
    field.addEventListener("input", () => this.typed(), { signal });
    field.addEventListener("click", () => this.typed(), { signal });
    // Before the frontend's own listener, which would close the field.
    const onKey = (/** @type {any} */ event) => this.key(event);
    field.addEventListener("keydown", onKey, { signal, capture: true });
    field.addEventListener("blur", () => this.end(ends), { signal });
  }

  /** @param {AbortController} ends */
  end(ends) {
    ends.abort();
    clearTimeout(this.timer);
    this.asked++;
    this.popup.remove();
    delete this.field.dataset.fitv2Completes;
    this.field.classList.remove("fitv2-class-wrong-field");
    this.field.setAttribute("aria-expanded", "false");
    this.field.removeAttribute("aria-activedescendant");
  }

  piece() {
    const { value, selectionStart } = this.field;
    return pieceAt(value, selectionStart ?? value.length);
  }

  typed() {
    const { typed } = this.piece();
    this.ids = typed ? this.classes.search(typed, MOST) : [];
    const [only] = this.ids;
    if (this.ids.length === 1 && this.classes.typed(only) === typed) this.ids = [];
    this.active = -1;
    this.draw();
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.check(), PAUSE);
  }

  /** Lets the server read the whole text, and says what no class is called. */
  async check() {
    const turn = ++this.asked;
    const entries = await readText(this.classes.model, this.field.value).catch(() => []);
    if (turn !== this.asked) return;
    const { start, end } = this.piece();
    // What is still being typed is wrong only where nothing begins like it.
    const wrong = entries.find(
      (entry) =>
        entry.error !== null && (!this.ids.length || entry.end < start || entry.start > end),
    );
    this.field.classList.toggle("fitv2-class-wrong-field", wrong !== undefined);
    this.note.replaceChildren(...(wrong ? this.complaint(wrong) : []));
    this.show();
  }

  /** @param {import("./class_text.js").TextEntry} entry */
  complaint({ text, nearest, start, end, error }) {
    const offers = nearest.slice(0, OFFERED).map(({ id }) =>
      button("fitv2-class-offer", this.classes.nameOf(id), () =>
        this.put(this.classes.typed(id), start, end),
      ),
    );
    const said = offers.length ? unclear(text) : (error ?? "");
    return [element("span", "", {}, said), ...offers];
  }

  draw() {
    this.list.replaceChildren(
      ...this.ids.map((id, at) => {
        const option = element("li", "fitv2-class-offered", {
          role: "option",
          id: `${this.prefix}-${at}`,
          "aria-selected": String(at === this.active),
        });
        option.append(
          ...faces(this.classes, [{ id, weight: 1 }]),
          element("span", "fitv2-class-chip-name", {}, this.classes.nameOf(id)),
          element("span", "fitv2-class-tile-number", {}, String(id)),
        );
        option.addEventListener("click", () => this.accept(id));
        return option;
      }),
    );
    this.show();
  }

  get isOpen() {
    return this.ids.length > 0 || this.note.hasChildNodes();
  }

  show() {
    this.list.hidden = !this.ids.length;
    this.field.setAttribute("aria-expanded", String(this.ids.length > 0));
    if (this.active < 0) this.field.removeAttribute("aria-activedescendant");
    else this.field.setAttribute("aria-activedescendant", `${this.prefix}-${this.active}`);
    if (!this.isOpen) {
      this.popup.hidePopover();
      return;
    }
    const { left, bottom, top, width } = this.field.getBoundingClientRect();
    this.popup.style.minWidth = `${Math.max(width, 220)}px`;
    this.popup.showPopover();
    const { offsetWidth, offsetHeight } = this.popup;
    const below = bottom + offsetHeight + 4 <= window.innerHeight;
    this.popup.style.left = `${Math.max(4, Math.min(left, window.innerWidth - offsetWidth - 4))}px`;
    this.popup.style.top = `${below ? bottom + 4 : Math.max(4, top - offsetHeight - 4)}px`;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { key } = event;
    if (event.isComposing || !this.isOpen || (!this.ids.length && key.startsWith("Arrow"))) return;
    const count = this.ids.length;
    // Beyond either end lies the field itself.
    if (key === "ArrowDown") this.active = this.active === count - 1 ? -1 : this.active + 1;
    else if (key === "ArrowUp") this.active = this.active < 0 ? count - 1 : this.active - 1;
    else if ((key === "Enter" || key === "Tab") && this.active >= 0) {
      this.accept(this.ids[this.active]);
    } else if (key === "Enter") {
      this.close(); // the frontend takes the text as it is
      return;
    } else if (key === "Escape") {
      this.close();
    } else return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.draw();
  }

  /** Offers nothing until more is typed. */
  close() {
    clearTimeout(this.timer);
    this.asked++;
    this.ids = [];
    this.note.replaceChildren();
    this.draw();
  }

  /** @param {number} id the class whose name takes the place of what was typed */
  accept(id) {
    const { start, end } = this.piece();
    this.put(this.classes.typed(id), start, end);
  }

  /** @param {string} text @param {number} start @param {number} end places in the field */
  put(text, start, end) {
    this.field.setRangeText(text, start, end, "end");
    this.field.dispatchEvent(new Event("input", { bubbles: true }));
    this.ids = [];
    this.active = -1;
    this.draw();
  }
}
