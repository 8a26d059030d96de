/**
 * The drawing of the shape pad: an image as its grid of tokens, with a corner to drag.
 *
 * Sizes are counted in tokens, as columns and rows. It knows nothing of nodes.
 */

import { say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
/** CSS pixels around the drawing, and within which an edge is taken hold of. */
const MARGIN = 10;
/** CSS pixels below the margin for the note, which a tall image would cover with its corner. */
const NOTE_HEIGHT = 16;
const REACH = 14;
/** The least distance of two lines of the grid, in CSS pixels. */
const LEAST_CELL = 5;
/** Tokens that an arrow key, and a page key, moves the corner by. */
const STEP = 1;
const LEAP = 4;

/** @typedef {{columns: number, rows: number}} Grid */
/**
 * @typedef {object} Drawn
 * @property {Grid} grid the image
 * @property {number} trainLength the side of the trained square
 * @property {number} trainTokens tokens of the curve
 * @property {number} budget tokens to keep along the curve of Alt
 * @property {string} level "within", "beyond" or "far"
 * @property {string} note on the dashed square
 * @property {string} facts for people who do not see the drawing
 * @property {boolean} enabled whether it can be changed
 */

/**
 * @param {(grid: Grid, isLast: boolean) => void} onChange with each size that is drawn
 * @param {() => void} onCancel when a drag is taken back
 * @param {number} longest the longest side in tokens
 * @returns {{element: HTMLElement, draw: (drawn: Drawn) => void}}
 */
export function createStage(onChange, onCancel, longest) {
  const element = document.createElement("div");
  element.className = "fitv2-stage";
  const svg = element.appendChild(document.createElementNS(SVG, "svg"));
  const [shape, lines, square, curve] = ["shape", "lines", "square", "curve"].map((name) => {
    const path = svg.appendChild(document.createElementNS(SVG, "path"));
    path.setAttribute("class", `fitv2-stage-${name}`);
    return path;
  });
  const note = element.appendChild(document.createElement("div"));
  note.className = "fitv2-stage-note";
  const corner = element.appendChild(document.createElement("div"));
  corner.className = "fitv2-stage-corner";
  corner.tabIndex = 0;
  corner.setAttribute("role", "slider");
  corner.setAttribute("aria-label", say("Width and height"));
  corner.setAttribute("aria-valuemin", "1");
  corner.title = say(
    "Drag for an exact size, or use the arrow keys. Shift keeps the ratio, Alt the tokens.",
  );

  /** @type {Drawn | undefined} */
  let drawn;
  /** @type {{edge: string, x: number, y: number, from: Grid, to: Grid | null, scale: number,
   *   budget: number} | null} */
  let drag = null;

  /** The tokens that Alt keeps from one change to the next, while nothing else changes the size. */
  let kept = { budget: 0, columns: 0, rows: 0 };
  const budget = () =>
    kept.columns === drawn?.grid.columns && kept.rows === drawn.grid.rows
      ? kept.budget
      : (drawn?.budget ?? 1);

  const limited = (/** @type {number} */ side) => Math.min(Math.max(Math.round(side), 1), longest);

  /** CSS pixels per token. */
  function scaleOf(/** @type {Drawn} */ { grid, trainLength }) {
    const width = Math.max(grid.columns * 1.06, trainLength * 1.75);
    const across = (element.clientWidth - 2 * MARGIN) / width;
    const down = element.clientHeight - 2 * MARGIN;
    const below = Math.min(down / (trainLength * 1.15), (down - NOTE_HEIGHT) / grid.rows);
    return Math.max(Math.min(across, below), 0.01);
  }

  function draw(/** @type {Drawn} */ next) {
    drawn = next;
    const { grid, trainLength, trainTokens } = next;
    const scale = drag ? Math.min(drag.scale, scaleOf(next)) : scaleOf(next);
    const x = (/** @type {number} */ columns) => (MARGIN + columns * scale).toFixed(1);
    const right = (element.clientWidth - MARGIN) / scale;
    const below = (element.clientHeight - MARGIN) / scale;
    const box = (/** @type {Grid} */ { columns, rows }) =>
      `M${x(0)} ${x(0)}H${x(columns)}V${x(rows)}H${x(0)}Z`;
    element.dataset.level = next.level;
    note.textContent = next.note;
    element.classList.toggle("fitv2-off", !next.enabled);
    shape.setAttribute("d", box(grid));
    square.setAttribute("d", box({ columns: trainLength, rows: trainLength }));
    let every = 1;
    while (every * scale < LEAST_CELL) every *= 2;
    let grids = "";
    for (let i = every; i < grid.columns; i += every) grids += `M${x(i)} ${x(0)}V${x(grid.rows)}`;
    for (let i = every; i < grid.rows; i += every) grids += `M${x(0)} ${x(i)}H${x(grid.columns)}`;
    lines.setAttribute("d", grids);
    const points = [];
    const first = Math.max(trainTokens / below, 0.5);
    for (let i = 0; i <= 60; i++) {
      const columns = first * (right / first) ** (i / 60);
      points.push(`${x(columns)} ${x(trainTokens / columns)}`);
    }
    curve.setAttribute("d", right > first ? `M${points.join("L")}` : "");
    corner.style.left = `${x(grid.columns)}px`;
    corner.style.top = `${x(grid.rows)}px`;
    corner.tabIndex = next.enabled ? 0 : -1;
    corner.setAttribute("aria-disabled", String(!next.enabled));
    corner.setAttribute("aria-valuemax", String(longest ** 2));
    corner.setAttribute("aria-valuenow", String(grid.columns * grid.rows));
    corner.setAttribute("aria-valuetext", next.facts);
  }

  /** Where the corner goes when it is pulled to a place, by the keys that are held. */
  function pulled(
    /** @type {Grid} */ to,
    /** @type {Grid} */ from,
    /** @type {{shiftKey: boolean, altKey: boolean}} */ keys,
  ) {
    let { columns, rows } = { columns: limited(to.columns), rows: limited(to.rows) };
    if (keys.altKey) {
      const most = drag?.budget ?? budget();
      const along = Math.sqrt((most * Math.max(to.columns, 1)) / Math.max(to.rows, 1));
      // The longer side is chosen, and the other one takes what the tokens leave.
      if (along * along >= most) {
        columns = Math.min(limited(along), most);
        rows = limited(Math.floor(most / columns));
      } else {
        rows = Math.min(limited(most / along), most);
        columns = limited(Math.floor(most / rows));
      }
      kept = { budget: most, columns, rows };
    } else if (keys.shiftKey) {
      const factor = (to.columns * from.columns + to.rows * from.rows) /
        (from.columns ** 2 + from.rows ** 2);
      columns = limited(from.columns * factor);
      rows = limited(from.rows * factor);
    }
    return { columns, rows };
  }

  /** CSS pixels of the window per pixel of the element, which the canvas may zoom. */
  const zoom = () => element.getBoundingClientRect().width / element.offsetWidth || 1;

  /** The edge under an event: "e", "s", "se", or "" for none. */
  function edgeAt(/** @type {MouseEvent} */ event) {
    if (!drawn?.enabled) return "";
    if (event.target === corner) return "se";
    const { left, top } = element.getBoundingClientRect();
    const [x, y] = [(event.clientX - left) / zoom(), (event.clientY - top) / zoom()];
    const scale = scaleOf(drawn);
    const [right, below] = [drawn.grid.columns, drawn.grid.rows].map((n) => MARGIN + n * scale);
    if (x > right + REACH || y > below + REACH) return "";
    const edge = (y > below - REACH ? "s" : "") + (x > right - REACH ? "e" : "");
    return edge;
  }

  element.addEventListener("pointerdown", (event) => {
    const edge = event.button === 0 ? edgeAt(event) : "";
    if (!edge || !drawn) return;
    event.stopPropagation();
    event.preventDefault();
    corner.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    drag = {
      edge,
      x: event.clientX,
      y: event.clientY,
      from: { ...drawn.grid },
      to: null,
      scale: scaleOf(drawn),
      budget: budget(),
    };
    element.classList.add("fitv2-dragged");
  });
  element.addEventListener("pointermove", (event) => {
    if (!drag) {
      const edge = edgeAt(event);
      element.style.cursor = { e: "ew-resize", s: "ns-resize", se: "nwse-resize" }[edge] ?? "";
      return;
    }
    event.stopPropagation();
    const { from, edge } = drag;
    const pixels = drag.scale * zoom();
    const to = {
      columns: from.columns + (edge.includes("e") ? (event.clientX - drag.x) / pixels : 0),
      rows: from.rows + (edge.includes("s") ? (event.clientY - drag.y) / pixels : 0),
    };
    change(pulled(to, from, event), false);
  });
  const end = (/** @type {PointerEvent} */ event) => {
    if (!drag) return;
    event.stopPropagation();
    const { to } = drag;
    drag = null;
    element.classList.remove("fitv2-dragged");
    if (drawn) draw(to ? { ...drawn, grid: to } : drawn);
    if (to) onChange(to, true);
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
  element.addEventListener("lostpointercapture", end);

  function change(/** @type {Grid} */ grid, /** @type {boolean} */ isLast) {
    if (!drawn || (grid.columns === drawn.grid.columns && grid.rows === drawn.grid.rows)) return;
    if (drag) drag.to = grid;
    draw({ ...drawn, grid });
    onChange(grid, isLast);
  }

  corner.addEventListener("keydown", (event) => {
    if (!drawn?.enabled || event.ctrlKey || event.metaKey) return;
    const { columns, rows } = drawn.grid;
    if (event.key === "Escape" && drag) {
      const { from } = drag;
      drag = null;
      element.classList.remove("fitv2-dragged");
      draw({ ...drawn, grid: from });
      onCancel();
    } else if (event.key === "Home") {
      change({ columns: drawn.trainLength, rows: drawn.trainLength }, true);
    } else {
      const [x, y] = {
        ArrowRight: [STEP, 0],
        ArrowLeft: [-STEP, 0],
        ArrowDown: [0, STEP],
        ArrowUp: [0, -STEP],
        PageDown: [LEAP, LEAP],
        PageUp: [-LEAP, -LEAP],
      }[event.key] ?? [0, 0];
      if (!x && !y) return;
      change(stepped({ columns, rows }, x, y, event), true);
    }
    event.preventDefault();
    event.stopPropagation();
  });

  /** The next size for an arrow key. Shift keeps the ratio and Alt the tokens, as in a drag. */
  function stepped(
    /** @type {Grid} */ { columns, rows },
    /** @type {number} */ x,
    /** @type {number} */ y,
    /** @type {KeyboardEvent} */ keys,
  ) {
    if (keys.altKey) {
      // Right and up lead to wider images along the curve, left and down to taller ones.
      const most = budget();
      const wider = x > 0 || y < 0;
      const isWide = columns > rows || (columns === rows && wider);
      const longer = Math.min(limited(Math.max(columns, rows) + (wider === isWide ? 1 : -1)), most);
      const shorter = limited(Math.floor(most / longer));
      const next = isWide ? { columns: longer, rows: shorter } : { columns: shorter, rows: longer };
      kept = { budget: most, ...next };
      return next;
    }
    if (keys.shiftKey) {
      const longer = Math.max(columns, rows);
      const factor = Math.max(longer + x + y, 1) / longer;
      return { columns: limited(columns * factor), rows: limited(rows * factor) };
    }
    return { columns: limited(columns + x), rows: limited(rows + y) };
  }

  new ResizeObserver(() => drawn && draw(drawn)).observe(element);
  return { element, draw };
}
