/** The dialog in which classes are searched, chosen and blended. */

import { ClassGrid } from "./class_grid.js";
import { button, element, faces } from "./class_parts.js";
import { recentClasses, remember } from "./class_recent.js";
import { nearestClasses } from "./class_text.js";
import { showOver } from "./host/overlay.js";
import { chosenChips, mixRows, partsOfMix } from "./class_tray.js";
import { say } from "./words.js";

/**
 * @typedef {import("./class_names.js").Classes} Classes
 * @typedef {import("./class_tray.js").Entry} Entry
 */

const RANDOM_COUNT = 6;
const MODES = /** @type {const} */ ([
  ["one", "One", "A click chooses one class and closes"],
  ["several", "Several", "One image per class, in the order chosen"],
  ["blend", "Blend", "One image between the classes"],
]);

/**
 * Lets people choose classes.
 *
 * @param {HTMLElement} owner the widget that asks
 * @param {Classes} classes
 * @param {Entry[]} entries what is chosen now
 * @param {string} note what to say about where the classes come from; may be empty
 * @returns {Promise<string[] | null>} what to type for each entry; null where nothing was changed
 */
export function chooseClasses(owner, classes, entries, note) {
  return new Promise((resolve) => new ClassDialog(owner, classes, entries, note, resolve).open());
}

class ClassDialog {
  /**
   * @param {HTMLElement} owner
   * @param {Classes} classes
   * @param {Entry[]} entries
   * @param {string} note
   * @param {(texts: string[] | null) => void} resolve
   */
  constructor(owner, classes, entries, note, resolve) {
    this.owner = owner;
    this.classes = classes;
    this.resolve = resolve;
    /** @type {Entry[]} */
    this.chosen = [...entries];
    const blend = entries.length === 1 ? entries[0].parts : null;
    /** @type {import("./class_tray.js").Share[]} */
    this.mix = (blend ?? []).map(({ id, weight }) => ({ id, share: percent(weight) }));
    /** @type {"one" | "several" | "blend"} */
    this.mode = entries.length > 1 ? "several" : this.mix.length > 1 ? "blend" : "one";
    this.isTouch = matchMedia("(pointer: coarse)").matches;
    /** @type {string[] | null} */
    this.answer = null;
    this.grid = new ClassGrid(
      this.classes,
      (id, event) => this.pick(id, event),
      (option) => this.showActive(option),
    );
    this.search = element("input", "fitv2-class-search", {
      type: "search",
      placeholder: say("Name, other name or id"),
      "aria-label": say("Search classes"),
      autocomplete: "off",
      spellcheck: "false",
    });
    this.count = element("span", "fitv2-class-count", { role: "status" });
    const group = { role: "radiogroup", "aria-label": say("Choose") };
    this.modes = element("div", "fitv2-class-modes", group);
    for (const [mode, name, title] of MODES) {
      const choice = button("fitv2-class-mode", say(name), () => this.setMode(mode));
      choice.title = say(title);
      choice.dataset.mode = mode;
      choice.setAttribute("role", "radio");
      this.modes.append(choice);
    }
    const some = say("Random {count}", { count: RANDOM_COUNT });
    const random = button("fitv2-class-button", some, () => this.random());
    const recent = { role: "group", "aria-label": say("Recently used") };
    this.recent = element("div", "fitv2-class-recent", recent);
    this.tray = element("ul", "fitv2-class-tray", { "aria-label": say("Chosen") });
    this.summary = element("span", "fitv2-class-summary");
    this.use = button("fitv2-class-button fitv2-class-primary", say("Use"), () => this.finish());
    this.dialog = element("dialog", "fitv2-class-dialog", { "aria-label": say("Choose classes") });
    this.dialog.append(
      row("fitv2-class-dialog-head", [
        this.modes,
        element("span", "fitv2-class-dialog-note", {}, note || this.classes.title),
        button(
          "fitv2-class-button fitv2-class-close",
          "×",
          () => this.dialog.close(),
          say("Close"),
        ),
      ]),
      row("fitv2-class-dialog-search", [this.search, this.count, random]),
      this.recent,
      this.grid.element,
      this.tray,
      row("fitv2-class-dialog-foot", [
        this.summary,
        button("fitv2-class-button", say("Cancel"), () => this.dialog.close()),
        this.use,
      ]),
    );
    this.listen();
  }

  listen() {
    this.search.addEventListener("input", () => this.find());
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    for (const kind of ["keyup", "copy", "cut", "paste", "wheel", "pointerdown"]) {
      // The graph behind must not take them for its own.
      this.dialog.addEventListener(kind, (event) => event.stopPropagation(), { passive: true });
    }
    this.dialog.addEventListener("mousedown", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // the backdrop
    });
    this.dialog.addEventListener("close", () => this.closed());
  }

  open() {
    showOver(this.owner, this.dialog);
    this.setMode(this.mode);
    this.find();
    // On a phone the field would bring up a keyboard over half of the classes.
    (this.isTouch ? this.grid.element : this.search).focus();
  }

  closed() {
    this.grid.close();
    this.dialog.remove();
    this.resolve(this.answer);
  }

  finish() {
    const parts = partsOfMix(this.mix);
    const texts = this.mode === "blend" ? [this.classes.typedBlend(parts)] : this.texts();
    if (!texts.length || !texts[0]) return;
    const ids = this.mode === "blend" ? parts.map(({ id }) => id) : this.singles();
    remember(this.classes.title, ids);
    this.answer = texts;
    this.dialog.close();
  }

  texts() {
    return this.chosen.map(({ text }) => text);
  }

  /** @returns {number[]} classes that are chosen each for itself */
  singles() {
    return this.chosen.flatMap(({ parts }) => (parts?.length === 1 ? [parts[0].id] : []));
  }

  /** @param {"one" | "several" | "blend"} mode */
  setMode(mode) {
    if (mode === "blend" && this.mode !== "blend") {
      const ids = [...new Set(this.singles())];
      this.mix = ids.map((id) => ({ id, share: percent(1 / ids.length) }));
    }
    if (mode === "several" && this.mode === "blend") {
      this.chosen = this.mix.map(({ id }) => this.entry(id));
    }
    this.mode = mode;
    for (const choice of /** @type {HTMLElement[]} */ ([...this.modes.children])) {
      const isOn = choice.dataset.mode === mode;
      choice.setAttribute("aria-checked", String(isOn));
      choice.tabIndex = isOn ? 0 : -1;
    }
    this.grid.multiple = mode !== "one";
    this.showChosen();
  }

  /** @param {number} id @returns {Entry} */
  entry(id) {
    return { text: this.classes.typed(id), parts: [{ id, weight: 1 }] };
  }

  /** @param {number} id @param {MouseEvent | KeyboardEvent | null} [event] */
  pick(id, event) {
    const adds = event && (event.ctrlKey || event.metaKey || event.shiftKey);
    if (this.mode === "one" && adds) this.setMode("several");
    if (this.mode === "one") {
      this.chosen = [this.entry(id)];
      this.finish();
    } else if (this.mode === "blend") {
      const others = this.mix.filter((part) => part.id !== id);
      const share = this.mix.length
        ? Math.round(this.mix.reduce((sum, part) => sum + part.share, 0) / this.mix.length)
        : 50;
      this.mix = others.length < this.mix.length ? others : [...this.mix, { id, share }];
      this.showChosen();
    } else {
      const isIt = (/** @type {Entry} */ { parts }) => parts?.length === 1 && parts[0].id === id;
      const others = this.chosen.filter((entry) => !isIt(entry));
      const isNew = others.length === this.chosen.length;
      this.chosen = isNew ? [...this.chosen, this.entry(id)] : others;
      this.showChosen();
    }
  }

  random() {
    const left = [...this.classes.ids];
    const count = Math.min(RANDOM_COUNT, left.length);
    const ids = Array.from({ length: count }, () => {
      const [id] = left.splice(Math.floor(Math.random() * left.length), 1);
      return id;
    });
    this.setMode("several");
    this.chosen = ids.map((id) => this.entry(id));
    this.showChosen();
  }

  find() {
    const typed = this.search.value.trim();
    const ids = this.classes.search(typed);
    const [first] = this.mode === "blend" ? this.mix.map(({ id }) => id) : this.singles();
    // Without a search, the view opens where the first chosen class is.
    this.grid.show(ids, typed ? 0 : Math.max(0, ids.indexOf(first)));
    const count = ids.length.toLocaleString("en");
    this.count.textContent = ids.length === 1 ? say("1 class") : say("{count} classes", { count });
    this.dialog.classList.toggle("fitv2-class-searching", typed !== "");
    this.recent.replaceChildren(...(typed ? [] : this.recentButtons()));
    if (!ids.length) void this.findNearest(typed);
  }

  /** @param {string} typed what no class is called */
  async findNearest(typed) {
    this.count.textContent = say("No class has this name.");
    const nearest = await nearestClasses(this.classes.model, typed);
    if (this.search.value.trim() !== typed || !nearest.length) return;
    this.count.textContent = say("No class has this name. The nearest:");
    this.grid.show(nearest);
  }

  recentButtons() {
    const ids = recentClasses(this.classes.title).filter((id) => id < this.classes.all.length);
    if (!ids.length) return [];
    const buttons = ids.map((id) => {
      const choice = button("fitv2-class-recent-class", "", (event) => this.pick(id, event));
      choice.append(...faces(this.classes, [{ id, weight: 1 }]), this.classes.nameOf(id));
      return choice;
    });
    return [element("span", "fitv2-class-recent-title", {}, say("Recent")), ...buttons];
  }

  showChosen() {
    const isBlend = this.mode === "blend";
    this.grid.choose(isBlend ? this.mix.map(({ id }) => id) : this.singles());
    this.tray.hidden = this.mode === "one";
    this.tray.replaceChildren(...this.trayRows());
    const count = isBlend ? this.mix.length : this.chosen.length;
    this.use.hidden = this.mode === "one";
    this.use.disabled = count === 0;
    this.summary.textContent = {
      one: this.isTouch
        ? say("Tap a class to use it.")
        : say("Click a class to use it. Ctrl adds more."),
      several: count === 1 ? say("1 image") : say("{count} images, in this order", { count }),
      blend:
        count < 2
          ? say("Choose two or more classes to blend")
          : say("1 image between {count} classes", { count }),
    }[this.mode];
  }

  trayRows() {
    return this.mode === "blend"
      ? mixRows(this.classes, this.mix, (id) => this.pick(id))
      : chosenChips(this.classes, this.chosen, (at) => this.drop(at));
  }

  /** @param {number} at place among the chosen */
  drop(at) {
    this.chosen = this.chosen.filter((_, index) => index !== at);
    this.showChosen();
    this.search.focus();
  }

  /** @param {string | null} option */
  showActive(option) {
    if (option) this.grid.element.setAttribute("aria-activedescendant", option);
    else this.grid.element.removeAttribute("aria-activedescendant");
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    event.stopPropagation();
    const { key, target } = event;
    if (event.isComposing) return;
    const isChord = event.ctrlKey || event.metaKey || event.altKey;
    const active = this.grid.activeClass;
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.finish();
    } else if (target === this.search) {
      if (key === "ArrowDown") {
        event.preventDefault();
        this.grid.element.focus();
      } else if (key === "Enter" && !this.search.value.trim() && this.mode !== "one") {
        event.preventDefault();
        this.finish();
      } else if (key === "Enter" && active !== undefined) {
        event.preventDefault();
        this.pick(active, event);
        this.search.select();
      } else if (key === "Escape" && this.search.value) {
        event.preventDefault();
        this.search.value = "";
        this.find();
      }
    } else if (target === this.grid.element && !isChord) {
      this.gridKey(event, active);
    } else if (this.modes.contains(/** @type {Node} */ (target)) && key.startsWith("Arrow")) {
      event.preventDefault();
      const step = key === "ArrowRight" || key === "ArrowDown" ? 1 : MODES.length - 1;
      const at = MODES.findIndex(([mode]) => mode === this.mode);
      this.setMode(MODES[(at + step) % MODES.length][0]);
      /** @type {HTMLElement} */ (this.modes.querySelector("[aria-checked=true]")).focus();
    }
  }

  /** @param {KeyboardEvent} event @param {number | undefined} active */
  gridKey(event, active) {
    const { key } = event;
    if (key === "ArrowUp" && this.grid.active < this.grid.columns) {
      event.preventDefault();
      this.search.focus();
    } else if (this.grid.move(key)) {
      event.preventDefault();
    } else if ((key === "Enter" || key === " ") && active !== undefined) {
      event.preventDefault();
      this.pick(active, event);
    } else if (key.length === 1) {
      this.search.focus(); // and the key is typed there
      this.search.select();
    }
  }
}

/** @param {number} weight @returns {number} what its slider can show: 1 or more */
function percent(weight) {
  return Math.max(1, Math.round(100 * weight));
}

/** @param {string} className @param {HTMLElement[]} children */
function row(className, children) {
  const line = element("div", className);
  line.append(...children);
  return line;
}
