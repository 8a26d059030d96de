/** One image large, or two in the same frame: with a slider, blinking, or their difference. */

import { element } from "./elements.js";
import { differing, measuresOf, nameOf, shown } from "./viewer_cells.js";
import { say } from "./words.js";

/** @typedef {import("./viewer_cells.js").Cell} Cell */
/** @typedef {import("./viewer_cells.js").Comparison} Comparison */

export const PAIR_VIEWS = ["slider", "blink", "difference"];
/** Slow enough for people whom flashes harm: less than three changes per second. */
const BLINK_MILLISECONDS = 600;
const SLIDER_STEP = 0.02;

export class Pair {
  /** @param {(cell: Cell) => string} urlOf */
  constructor(urlOf) {
    this.urlOf = urlOf;
    this.view = "one";
    this.split = 0.5;
    /** @type {Cell | null} */
    this.first = null;
    /** @type {Cell | null} */
    this.second = null;
    this._timer = 0;
    this._imageA = element("img", { alt: "", draggable: "false" });
    this._imageB = element("img", { alt: "", draggable: "false" });
    this._handle = element("div", {
      class: "fitv2-viewer-handle",
      role: "slider",
      tabindex: "0",
      "aria-label": say("Where A ends and B begins"),
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      keydown: (/** @type {KeyboardEvent} */ event) => this._key(event),
      pointerdown: (/** @type {PointerEvent} */ event) => {
        event.stopPropagation();
        this._handle.setPointerCapture(event.pointerId);
      },
      pointermove: (/** @type {PointerEvent} */ event) => {
        if (!this._handle.hasPointerCapture(event.pointerId)) return;
        const { left, width } = this.frame.getBoundingClientRect();
        this._slide((event.clientX - left) / width);
      },
    });
    this._gain = element("input", {
      type: "range",
      min: "1",
      max: "16",
      value: "4",
      "aria-label": say("Brightness of the difference"),
      title: say("Brightness of the difference"),
      input: () => this.frame.style.setProperty("--gain", this._gain.value),
    });
    this.frame = element(
      "div",
      { class: "fitv2-viewer-frame" },
      element("div", { class: "fitv2-viewer-layer fitv2-viewer-layer-a" }, this._imageA),
      element("div", { class: "fitv2-viewer-layer fitv2-viewer-layer-b" }, this._imageB),
      this._handle,
    );
    for (const image of [this._imageA, this._imageB]) {
      image.addEventListener("load", () => this.frame.classList.remove("fitv2-viewer-gone"));
      image.addEventListener("error", () => this.frame.classList.add("fitv2-viewer-gone"));
    }
    this._stage = element("div", { class: "fitv2-viewer-stage" }, this.frame);
    this._caption = element("div", { class: "fitv2-viewer-pair-caption", "aria-live": "polite" });
    this.element = element(
      "div",
      {
        class: "fitv2-viewer-pair",
        tabindex: "0",
        role: "group",
        "aria-label": say("Images A and B"),
      },
      this._stage,
      this._caption,
    );
    this.frame.style.setProperty("--gain", this._gain.value);
    this._slide(this.split);
  }

  /**
   * @param {string} view "one" or one of {@link PAIR_VIEWS}
   * @param {Comparison} comparison
   * @param {Cell} first A
   * @param {Cell | null} second B; drawn in the shape of A where it has another
   */
  show(view, comparison, first, second) {
    window.clearInterval(this._timer);
    this.view = second ? view : "one";
    this.first = first;
    this.second = second;
    this.element.dataset.view = this.view;
    this._imageA.src = this.urlOf(first);
    if (second) this._imageB.src = this.urlOf(second);
    const shownSecond = this.view === "one" ? null : second;
    this._caption.replaceChildren(...this._captions(comparison, first, shownSecond));
    delete this.frame.dataset.blink;
    if (this.view === "blink") {
      this._blink("A");
      this._timer = window.setInterval(() => this.toggle(), BLINK_MILLISECONDS);
    }
    this.layOut();
  }

  /** Stops what moves while the grid is shown. */
  stop() {
    window.clearInterval(this._timer);
  }

  /** Shows the other image of a pair that blinks. */
  toggle() {
    this._blink(this.frame.dataset.blink === "B" ? "A" : "B");
  }

  /** Stops or starts the blinking. */
  pause() {
    if (this.view !== "blink") return;
    if (this._timer) {
      window.clearInterval(this._timer);
      this._timer = 0;
      this.toggle();
    } else {
      this._timer = window.setInterval(() => this.toggle(), BLINK_MILLISECONDS);
    }
  }

  /** @param {string} which A or B */
  _blink(which) {
    this.frame.dataset.blink = which;
    this.element.dataset.blink = which;
  }

  /** Gives the frame the shape of A, as large as fits. */
  layOut() {
    const { clientWidth: width, clientHeight: height } = this._stage;
    if (!this.first || !width || !height) return;
    const factor = Math.min(width / this.first.width, height / this.first.height);
    this.frame.style.width = `${this.first.width * factor}px`;
    this.frame.style.height = `${this.first.height * factor}px`;
    this.frame.dataset.pixels = String(1 / factor);
  }

  /**
   * @param {Comparison} comparison
   * @param {Cell} first
   * @param {Cell | null} second
   */
  _captions(comparison, first, second) {
    if (!second) {
      return [element("div", {}, `${nameOf(comparison, first)} · ${measuresOf(first)}`)];
    }
    const keys = differing([first, second]);
    const line = (/** @type {string} */ mark, /** @type {Cell} */ cell) => {
      const told = [...keys].map((key) => shown(key, cell.settings[key]));
      const text = [...(told.length ? told : [nameOf(comparison, cell)]), measuresOf(cell)];
      return element(
        "div",
        { class: `fitv2-viewer-side-${mark.toLowerCase()}` },
        element("b", { class: "fitv2-viewer-mark" }, mark),
        ` ${text.filter(Boolean).join(" · ")}`,
      );
    };
    /** @type {HTMLElement[]} */
    const captions = [line("A", first), line("B", second)];
    if (first.width * second.height !== first.height * second.width) {
      const hint = say("B has another shape: stretched to that of A");
      captions.push(element("div", { class: "fitv2-viewer-hint" }, hint));
    }
    if (this.view === "difference") {
      captions.push(element("label", {}, `${say("Brightness")} `, this._gain));
    }
    return captions;
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const steps = { ArrowLeft: -SLIDER_STEP, ArrowRight: SLIDER_STEP, Home: -1, End: 1 };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this._slide(this.split + step);
  }

  /** @param {number} split the share of the frame that shows A */
  _slide(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.frame.style.setProperty("--split", String(this.split));
    this._handle.setAttribute("aria-valuenow", String(Math.round(100 * this.split)));
  }
}
