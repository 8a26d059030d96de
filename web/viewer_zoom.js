/**
 * One zoom for images of different sizes: a place is a fraction of each image's width and height.
 *
 * Each image is placed by an animation that has ended. With custom properties that all images read,
 * every element of the viewer gets its style anew in each frame, and a change of style attributes
 * makes the browser look through selectors of the frontend: both take three to four times as long.
 */

const LARGEST = 64;
const SMALLEST_ACTUAL = 1 / 16;
const KEY_FACTOR = 1.25;
/** From here on pixels are shown as squares. */
const SHARP_SCALE = 8;
/** CSS pixels within which a press is a click. */
const CLICK_PIXELS = 4;

export class Zoom {
  /**
   * @param {HTMLElement} root the images are somewhere below it
   * @param {string} frames selector of the boxes that images are shown in
   */
  constructor(root, frames) {
    this.root = root;
    this.frames = frames;
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
    this._frame = 0;
    /** What places each image. @type {WeakMap<HTMLElement, KeyframeEffect>} */
    this._effects = new WeakMap();
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

  /** After images came, or their size on the screen changed. */
  refresh() {
    cancelAnimationFrame(this._frame);
    this._frame = 0;
    this._limit();
    this._draw();
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
   * @param {(event: WheelEvent) => "zoom" | "scroll" | "canvas"} wheel what the wheel does now
   */
  listen(element, wheel) {
    const frameAt = (/** @type {Event} */ event) =>
      /** @type {HTMLElement} */ (event.target).closest?.(this.frames);
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
      if (!this._pointers.size) this.dragged = false;
      const frame = /** @type {HTMLElement | null} */ (frameAt(event));
      if (!frame || event.button > 0) return;
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
    return (this.scale * pixelsOf(frame)) / this._unit();
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

  /** Keeps the middle of every frame on its image. */
  _limit() {
    const margin = this.actual ? 0 : 0.5 / this.scale;
    this.x = Math.min(1 - margin, Math.max(margin, this.x));
    this.y = Math.min(1 - margin, Math.max(margin, this.y));
  }

  /** Draws before the next frame of the screen, however often the pointer moves until then. */
  _show() {
    this._limit();
    this._frame ||= requestAnimationFrame(() => this.refresh());
  }

  _draw() {
    const { classList } = this.root;
    classList.toggle("fitv2-viewer-actual", this.actual);
    classList.toggle("fitv2-viewer-zoomed", !this.isFit);
    classList.toggle("fitv2-viewer-sharp", this.actual || this.scale >= SHARP_SCALE);
    const unit = this.actual ? this._unit() : 1;
    for (const frame of this.root.querySelectorAll(this.frames)) {
      const pixels = this.actual ? pixelsOf(/** @type {HTMLElement} */ (frame)) : 1;
      const transform = this.isFit ? "none" : this._transform((this.scale * pixels) / unit);
      for (const image of frame.querySelectorAll("img")) this._place(image, transform);
    }
  }

  /** @param {HTMLElement} image @param {string} transform */
  _place(image, transform) {
    let effect = this._effects.get(image);
    if (!effect && transform === "none") return;
    if (!effect) {
      effect = new KeyframeEffect(image, null, { duration: 1, fill: "forwards" });
      new Animation(effect).finish();
      this._effects.set(image, effect);
    }
    effect.setKeyframes({ transform });
  }

  /** @param {number} scale enlargement in a frame */
  _transform(scale) {
    const along = (/** @type {number} */ place) => `${100 * shift(scale, place)}%`;
    return `translate(${along(this.x)}, ${along(this.y)}) scale(${scale})`;
  }
}

/**
 * Where an image begins in its frame, as a fraction of the frame: a large one covers it to the
 * edges, a small one stays in its middle.
 *
 * @param {number} scale
 * @param {number} place of the image that is to be in the middle
 */
function shift(scale, place) {
  const centred = (1 - scale) / 2;
  const least = Math.min(1 - scale, centred);
  return Math.max(least, Math.min(0.5 - scale * place, Math.max(0, centred)));
}

/**
 * @param {HTMLElement} frame
 * @returns {number} pixels of its image per CSS pixel of the frame
 */
function pixelsOf(frame) {
  return Number(frame.dataset.pixels) || 1;
}

/**
 * @param {HTMLElement} frame
 * @param {{clientX: number, clientY: number}} point
 */
function within(frame, { clientX, clientY }) {
  const box = frame.getBoundingClientRect();
  return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
}
