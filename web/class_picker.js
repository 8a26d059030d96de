/** The classes of a node as chips under its text, which stays the stored value. */

import { chooseClasses } from "./class_dialog.js";
import { classesAgain, classesOf } from "./class_names.js";
import { button, element, faces } from "./class_parts.js";
import { PAUSE, partsOf, readText, unclear, unreadEntries } from "./class_text.js";
import {
  addElement,
  isLinked,
  modelOf,
  onChange,
  onFilesChange,
  onGraphChange,
  onLinksChange,
  passToCanvas,
  setValues,
  valueOf,
  widgetOf,
} from "./host/frontend.js";
import { say } from "./words.js";

/** @typedef {import("./class_text.js").TextEntry} TextEntry */

/** In CSS pixels: two lines of chips, two of text, and the margins of the classic canvas. */
const HEIGHT = 124;
/** As far as it grows with its node: about ten lines of chips. */
const MOST_HEIGHT = 400;
/** Of a new node: room for two or three chips beside the button. */
const WIDTH = 340;
/** Names offered for one that no class has. */
const OFFERED = 3;

/** The picker of each node that has one. @type {WeakMap<any, ClassPicker>} */
const pickers = new WeakMap();

/**
 * Adds a picker of classes to a node.
 *
 * @param {any} node
 * @param {string} input the name of the input with the typed classes
 */
export function addClassPicker(node, input) {
  if (!pickers.has(node)) pickers.set(node, new ClassPicker(node, input));
}

/**
 * @param {any} node
 * @param {string} input
 * @returns {ClassPicker | undefined} the picker that writes this input
 */
export function pickerOf(node, input) {
  const picker = pickers.get(node);
  return picker?.input === input ? picker : undefined;
}

class ClassPicker {
  /** @param {any} node @param {string} input */
  constructor(node, input) {
    this.node = node;
    this.input = input;
    /** The classes known last. @type {import("./class_names.js").Classes | null} */
    this.classes = null;
    /** Why the classes of the model are not known; empty where they are. */
    this.trouble = "";
    /** @type {TextEntry[]} */
    this.entries = [];
    /** The text that the entries are of. */
    this.readText = "";
    this.asked = 0;
    this.reading = Promise.resolve();
    /** What the chips show, to see whether anything has changed. */
    this.seen = "";
    this.timer = 0;

    this.chips = element("ul", "fitv2-class-chips", { "aria-label": say("Chosen classes") });
    const openAll = () => void this.choose(null);
    this.open = button("fitv2-class-button fitv2-class-open", say("Classes…"), openAll);
    this.note = element("div", "fitv2-class-picker-note", { role: "status" });
    this.element = element("div", "fitv2-class-picker");
    const line = element("div", "fitv2-class-picker-line");
    line.append(this.chips, this.open);
    this.element.append(line, this.note);

    const widget = addElement(node, "class_picker", this.element, {
      minHeight: HEIGHT,
      maxHeight: MOST_HEIGHT,
      newWidth: Math.max(WIDTH, node.size[0]),
    });
    // As App mode calls it: by what the text is called in this workflow or language.
    const { label = input } = widgetOf(node, input) ?? {};
    widget.label = label === "text" ? say("class") : label;
    onChange(node, input, () => this.refreshSoon());
    onLinksChange(node, () => this.refreshSoon());
    onGraphChange(node, () => this.refreshSoon());
    onFilesChange(node, (asked) => void this.readAgain(asked));
    this.chips.addEventListener("wheel", (event) => {
      // Chips that do not all fit are scrolled; else the wheel is the canvas's.
      if (this.chips.scrollHeight > this.chips.clientHeight) event.stopPropagation();
    });
    passToCanvas(this.element);
    this.refreshSoon(0);
  }

  /** @param {number} [delay] in milliseconds */
  refreshSoon(delay = PAUSE) {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.refresh(), delay);
  }

  /** Reads the text and the model again, where either has changed; ends when they are shown. */
  async refresh() {
    if (!this.node.graph) return; // it was removed meanwhile
    const text = this.text();
    const model = modelOf(this.node);
    const linked = isLinked(this.node, this.input);
    const state = JSON.stringify([text, model, linked]);
    if (state !== this.seen) {
      this.seen = state;
      this.reading = this.show(text, model, linked);
    }
    await this.reading;
  }

  /**
   * @param {string} text
   * @param {import("./class_names.js").Model | null} model null where it is not known
   * @param {boolean} linked whether the text comes from another node
   */
  async show(text, model, linked) {
    const turn = ++this.asked;
    const { entries, classes, trouble } = await this.read(text, model, linked);
    if (turn !== this.asked) return; // a later question has been asked meanwhile
    this.readText = text;
    this.entries = entries;
    this.classes = classes;
    this.trouble = trouble;
    this.draw();
  }

  /** @param {boolean} all whether the thumbnails are read again too */
  async readAgain(all) {
    const model = modelOf(this.node) ?? this.classes?.model;
    const classes = model && (await classesAgain(model, all).catch(() => null));
    if (classes === this.classes) return;
    this.seen = ""; // also where the file is gone, which is then said
    this.refreshSoon(0);
  }

  /**
   * @param {string} text
   * @param {import("./class_names.js").Model | null} model null where it is not known
   * @param {boolean} linked whether the text comes from another node
   */
  async read(text, model, linked) {
    const asked = model ?? this.classes?.model ?? null;
    const unread = { entries: unreadEntries(text), classes: this.classes };
    if (linked) {
      return { ...unread, entries: [], trouble: say("The classes come from a connected node.") };
    }
    const unknown = isLinked(this.node, "model")
      ? say("The checkpoint of this model is not known here.")
      : say("Connect a model to see its classes.");
    if (asked === null) return { ...unread, trouble: unknown };
    try {
      const [classes, entries] = await Promise.all([classesOf(asked), readText(asked, text)]);
      const kept = say("These are the classes of {model}.", { model: classes.title });
      return { entries, classes, trouble: model ? "" : `${unknown} ${kept}` };
    } catch (error) {
      this.seen = ""; // asked again at the next change of the graph
      return { ...unread, trouble: /** @type {Error} */ (error).message };
    }
  }

  draw() {
    const focused = this.element.contains(document.activeElement) && document.activeElement;
    this.chips.replaceChildren(...this.entries.map((entry, at) => this.chip(entry, at)));
    this.open.disabled = !this.classes || isLinked(this.node, this.input);
    const wrong = this.entries.findIndex(({ error }) => error !== null);
    const isWrong = wrong >= 0 && !this.trouble;
    this.note.classList.toggle("fitv2-class-error", isWrong);
    this.note.replaceChildren(
      ...(isWrong ? this.offers(wrong) : [this.trouble || this.hint()]),
    );
    const red = this.chips.children[wrong];
    if (red instanceof HTMLElement) this.chips.scrollTop = red.offsetTop - this.chips.offsetTop;
    // A chip that had the focus is gone: the button beside takes it.
    if (focused && !this.element.contains(document.activeElement)) this.open.focus();
  }

  hint() {
    if (!this.entries.length) return say("No class is chosen yet.");
    const count = this.entries.length;
    if (count > 1) return say("{count} classes, in this order", { count });
    return this.entries[0].label ?? "";
  }

  /** @param {TextEntry} entry @param {number} at place in the list */
  chip(entry, at) {
    const parts = partsOf(entry);
    const { classes } = this;
    const kind = entry.error !== null ? " fitv2-class-wrong" : parts ? "" : " fitv2-class-unread";
    const chip = element("li", `fitv2-class-chip${kind}`);
    const name = parts && classes ? classes.shown(parts) : entry.text;
    const face = button("fitv2-class-chip-face", "", () => void this.choose(at));
    face.title = entry.error ?? entry.label ?? entry.text;
    face.append(...faces(classes, parts ?? []), element("span", "fitv2-class-chip-name", {}, name));
    const removal = say("Remove {name}", { name });
    chip.append(face, button("fitv2-class-remove", "×", () => this.remove(at), removal));
    return chip;
  }

  /** @param {number} at place of an entry that is no class */
  offers(at) {
    const { error, nearest, text } = this.entries[at];
    const { classes } = this;
    if (!nearest.length || !classes) return [error ?? ""];
    const buttons = nearest.slice(0, OFFERED).map(({ id }) =>
      button("fitv2-class-offer", classes.nameOf(id), () => this.replace(at, [classes.typed(id)])),
    );
    return [element("span", "", { title: error ?? "" }, unclear(text)), ...buttons];
  }

  /** @param {number} at place of the entry that goes, with what separates it from the others */
  remove(at) {
    const next = this.entries[at + 1];
    const before = this.entries[at - 1];
    const { start, end } = this.entries[at];
    if (next) this.splice(start, next.start, "");
    else this.splice(before ? before.end : start, end, "");
    this.open.focus();
  }

  /** @param {number} at @param {string[]} texts what takes the entry's place */
  replace(at, texts) {
    const { start, end } = this.entries[at];
    this.splice(start, end, texts.join("; "));
  }

  /** @param {number} start @param {number} end places in the text @param {string} typed */
  splice(start, end, typed) {
    const text = this.text();
    if (text === this.readText) this.write(text.slice(0, start) + typed + text.slice(end));
    else this.refreshSoon(0); // the entries are those of an older text
  }

  /** @param {string} text */
  write(text) {
    setValues(this.node, { [this.input]: text });
    this.refreshSoon(0);
  }

  text() {
    return String(valueOf(this.node, this.input) ?? "");
  }

  /** @param {number | null} at the entry to choose anew; null for all of them */
  async choose(at) {
    await this.refresh();
    const { classes } = this;
    if (!classes || isLinked(this.node, this.input)) return;
    const entries = at === null ? this.entries : [this.entries[at]];
    const given = entries.map((entry) => ({ text: entry.text, parts: partsOf(entry) }));
    const texts = await chooseClasses(this.element, classes, given, this.trouble);
    if (!texts) return;
    if (at === null) this.write(texts.join("; "));
    else this.replace(at, texts);
    this.open.focus();
  }
}
