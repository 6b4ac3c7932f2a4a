import { sharpContext, themeColour } from "./canvas.js";
import { h } from "./dom.js";
import { clamp, number } from "./numbers.js";
import { viridis } from "./scales.js";

// Categories differ in shape as well as colour; quantities differ in lightness.
const SHAPES = ["disc", "square", "triangle", "diamond", "cross", "plus", "down", "bar"];
// The Okabe-Ito palette, which most colour-blind people can tell apart.
const CATEGORY_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b0a000", "#7f7f7f"];
const OUTLINES = {
  triangle: [[0, -1.1], [1, 0.8], [-1, 0.8]],
  down: [[0, 1.1], [1, -0.8], [-1, -0.8]],
  diamond: [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]],
  plus: [
    [-0.35, -1.1], [0.35, -1.1], [0.35, -0.35], [1.1, -0.35], [1.1, 0.35], [0.35, 0.35], [0.35, 1.1], [-0.35, 1.1],
    [-0.35, 0.35], [-1.1, 0.35], [-1.1, -0.35], [-0.35, -0.35],
  ],
  cross: [
    [-1.1, -0.7], [-0.7, -1.1], [0, -0.4], [0.7, -1.1], [1.1, -0.7], [0.4, 0], [1.1, 0.7], [0.7, 1.1], [0, 0.4],
    [-0.7, 1.1], [-1.1, 0.7], [-0.4, 0],
  ],
};

// The marks of images by a label, or by none: { of(image) -> { colour, shape }, legend() -> elements }.
export function markersOf(label, rows, element) {
  if (!label) return { of: () => ({ colour: themeColour(element, "--ll-muted"), shape: "disc" }), legend: () => [] };
  const { names, values, name } = label;
  if (names) {
    const kind = (k) => ({ colour: CATEGORY_COLOURS[k % CATEGORY_COLOURS.length], shape: SHAPES[(k + Math.floor(k / SHAPES.length)) % SHAPES.length] });
    return { of: (i) => kind(values[rows[i]]), legend: () => names.map((text, k) => legendEntry(kind(k), text)) };
  }
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const unknown = { colour: themeColour(element, "--ll-muted"), shape: "cross" };
  const of = (i) => {
    const value = values[rows[i]];
    return value === null ? unknown : { colour: viridis((value - low) / (high - low || 1)), shape: "disc" };
  };
  const bar = () => {
    const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map(viridis).join(",");
    const ramp = h("span", { class: "ll-ramp", style: `background:linear-gradient(90deg,${stops})` });
    return [h("span", {}, `${name}: ${number(low)}`), ramp, h("span", {}, number(high))];
  };
  return { of, legend: bar };
}

function legendEntry({ colour, shape }, text) {
  const canvas = h("canvas", { "aria-hidden": "true", style: "width:14px;height:14px" });
  const context = sharpContext(canvas, 14, 14);
  context.fillStyle = colour;
  context.strokeStyle = "transparent";
  drawMarker(context, [7, 7], shape);
  return h("span", {}, canvas, text);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} place
 * @param {string} shape
 */
export function drawMarker(context, [x, y], shape, r = 4) {
  context.beginPath();
  if (shape === "disc") context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === "square") context.rect(x - 0.85 * r, y - 0.85 * r, 1.7 * r, 1.7 * r);
  else if (shape === "bar") context.rect(x - 1.2 * r, y - 0.4 * r, 2.4 * r, 0.8 * r);
  else {
    OUTLINES[shape].forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    context.closePath();
  }
  context.fill();
  context.stroke();
}

/**
 * The current latent: a ring with a cross hair, outlined so that it shows on any background. Outside the canvas it stays
 * at the border, with an arrow to where it is.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} place
 * @param {string} colour
 * @param {string} around
 * @param {number[]} size
 */
export function drawRing(context, [x, y], colour, around, [width, height]) {
  const border = 16;
  const [left, top] = [clamp(x, border, width - border), clamp(y, border, height - border)];
  const outside = x < 0 || y < 0 || x > width || y > height;
  const [cx, cy] = outside ? [left, top] : [x, y];
  const angle = Math.atan2(y - cy, x - cx);
  for (const { line, stroke } of [{ line: 5, stroke: around }, { line: 2.5, stroke: colour }]) {
    context.beginPath();
    context.arc(cx, cy, outside ? 6 : 9, 0, 2 * Math.PI);
    if (outside) {
      for (const turn of [-0.5, 0.5]) {
        context.moveTo(cx + 14 * Math.cos(angle), cy + 14 * Math.sin(angle));
        context.lineTo(cx + 9 * Math.cos(angle + turn), cy + 9 * Math.sin(angle + turn));
      }
    } else {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(cx + 5 * dx, cy + 5 * dy);
        context.lineTo(cx + 13 * dx, cy + 13 * dy);
      }
    }
    context.lineWidth = line;
    context.strokeStyle = stroke;
    context.stroke();
  }
}
