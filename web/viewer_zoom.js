/**
 * One zoom for images of different sizes: a place is a fraction of each image's width and height.
 *
 * The style sheet does the rest: every image below the root reads the custom properties that are
 * set here, so that one change moves all of them.
 */

const LARGEST = 64;
const SMALLEST_ACTUAL = 1 / 16;
const KEY_FACTOR = 1.25;
/** From here on pixels are shown as squares. */
const SHARP_SCALE = 8;
/** CSS pixels within which a press is a click. */
const CLICK_PIXELS = 4;

export class Zoom {
  /** @param {HTMLElement} root the images are somewhere below it */
  constructor(root) {
    this.root = root;
    /** Enlargement of what is shown at fit, or of the image's own pixels if `actual`. */
    this.scale = 1;
    this.actual = false;
    /** The place in the middle of every frame, as fractions of the image. */
    this.x = 0.5;
    this.y = 0.5;
    /** Whether the last press moved the images, so that it was no click. */
    this.dragged = false;
    /** @type {Map<number, {x: number, y: number, frame: HTMLElement}>} */
    this._pointers = new Map();
    this._show();
  }

  /** Shows whole images. */
  fit() {
    Object.assign(this, { scale: 1, actual: false, x: 0.5, y: 0.5 });
    this._show();
  }

  /** Shows a pixel of every image as a pixel of the screen, whatever the canvas is scaled to. */
  actualPixels() {
    Object.assign(this, { scale: 1, actual: true });
    this._show();
  }

  /** After the size of the images on the screen changed. */
  refresh() {
    this._show();
  }

  get isFit() {
    return this.scale === 1 && !this.actual;
  }

  /** @param {1 | -1} direction 1 enlarges */
  step(direction) {
    this._zoom(KEY_FACTOR ** direction, 0.5, 0.5, 1);
  }

  /**
   * Lets mouse, pen and touch zoom and move the images below an element.
   *
   * @param {HTMLElement} element
   * @param {string} frames selector of the boxes that images are shown in
   * @param {(event: WheelEvent) => "zoom" | "scroll" | "canvas"} wheel what the wheel does now
   */
  listen(element, frames, wheel) {
    const frameAt = (/** @type {Event} */ event) =>
      /** @type {HTMLElement} */ (event.target).closest?.(frames);
    element.addEventListener("wheel", (event) => {
      const does = wheel(event);
      if (does === "canvas") return;
      event.stopPropagation();
      const frame = /** @type {HTMLElement | null} */ (frameAt(event));
      if (!frame || does === "scroll") return;
      event.preventDefault();
      const { x, y } = within(frame, event);
      this._zoom(2 ** (-event.deltaY / (event.ctrlKey ? 100 : 300)), x, y, this._of(frame));
    });
    element.addEventListener("pointerdown", (event) => {
      const frame = /** @type {HTMLElement | null} */ (frameAt(event));
      if (!frame || event.button > 0) return;
      if (!this._pointers.size) this.dragged = false;
      this._pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, frame });
    });
    element.addEventListener("pointermove", (event) => this._move(event, element));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel", "pointerleave"])) {
      element.addEventListener(name, (event) => this._pointers.delete(event.pointerId));
    }
    element.addEventListener("dragstart", (event) => event.preventDefault());
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} element
   */
  _move(event, element) {
    const last = this._pointers.get(event.pointerId);
    if (!last) return;
    const dx = event.clientX - last.x;
    const dy = event.clientY - last.y;
    const other = [...this._pointers.entries()].find(([id]) => id !== event.pointerId)?.[1];
    if (!this.dragged) {
      if (Math.hypot(dx, dy) < CLICK_PIXELS) return;
      if (this.isFit && !other) return; // the page may scroll
      this.dragged = true;
      element.setPointerCapture(event.pointerId);
    }
    const { frame } = last;
    const box = frame.getBoundingClientRect();
    if (other) {
      const before = Math.hypot(last.x - other.x, last.y - other.y);
      const now = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      const middle = within(frame, {
        clientX: (event.clientX + other.x) / 2,
        clientY: (event.clientY + other.y) / 2,
      });
      this._zoom(now / Math.max(before, 1), middle.x, middle.y, this._of(frame));
    }
    const share = other ? 0.5 : 1; // each of two fingers moves the images by half
    const scale = this._of(frame);
    this.x -= (share * dx) / (box.width * scale);
    this.y -= (share * dy) / (box.height * scale);
    Object.assign(last, { x: event.clientX, y: event.clientY });
    this._show();
  }

  /**
   * The enlargement in one frame: images of different sizes differ in it at 1:1.
   *
   * @param {HTMLElement} frame
   */
  _of(frame) {
    if (!this.actual) return this.scale;
    const pixels = Number(frame.style.getPropertyValue("--pixels")) || 1;
    return (this.scale * pixels) / this._unit();
  }

  /** Pixels of the screen per CSS pixel of the frames; the classic canvas scales its widgets. */
  _unit() {
    const { width } = this.root.getBoundingClientRect();
    return (width / (this.root.offsetWidth || width || 1)) * window.devicePixelRatio || 1;
  }

  /**
   * @param {number} factor
   * @param {number} x of the place in the frame that stays, as a fraction
   * @param {number} y
   * @param {number} enlargement in that frame
   */
  _zoom(factor, x, y, enlargement) {
    const smallest = this.actual ? SMALLEST_ACTUAL : 1;
    const scale = Math.min(LARGEST, Math.max(smallest, this.scale * factor));
    const now = this.actual ? (enlargement * scale) / this.scale : scale;
    this.x += (x - 0.5) * (1 / enlargement - 1 / now);
    this.y += (y - 0.5) * (1 / enlargement - 1 / now);
    this.scale = scale;
    this._show();
  }

  _show() {
    const margin = this.actual ? 0 : 0.5 / this.scale;
    this.x = Math.min(1 - margin, Math.max(margin, this.x));
    this.y = Math.min(1 - margin, Math.max(margin, this.y));
    const { style, classList } = this.root;
    style.setProperty("--zoom", String(this.scale));
    style.setProperty("--x", String(this.x));
    style.setProperty("--y", String(this.y));
    style.setProperty("--unit", String(this.actual ? this._unit() : 1));
    classList.toggle("fitv2-viewer-actual", this.actual);
    classList.toggle("fitv2-viewer-zoomed", !this.isFit);
    classList.toggle("fitv2-viewer-sharp", this.actual || this.scale >= SHARP_SCALE);
  }
}

/**
 * @param {HTMLElement} frame
 * @param {{clientX: number, clientY: number}} point
 */
function within(frame, { clientX, clientY }) {
  const box = frame.getBoundingClientRect();
  return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
}
