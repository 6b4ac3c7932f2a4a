import { number } from "./numbers.js";

const TICK = 5; // its length in pixels
const TICK_SPACE = 70; // pixels from one to the next, at least
const ROUND_STEPS = [1, 2, 5, 10];

// The round numbers from low to high, in steps that are at least as large as the range divided by `most`.
export function roundNumbers(low, high, most) {
  const least = (high - low) / Math.max(1, most);
  const unit = 10 ** Math.floor(Math.log10(least));
  const step = unit * ROUND_STEPS.find((factor) => factor * unit >= 0.999 * least);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(9)));
}

/**
 * Numbers along the lower and the left side of a map, outlined so that they show on pictures; none where `covered` has
 * words: pixels from the left and from the right of the lower side, from the top and from the bottom of the left one.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {any} scale
 * @param {number[]} size
 * @param {number[][]} covered
 * @param {string} colour
 * @param {string} around
 */
export function drawTicks(context, scale, [width, height], [[left, right], [top, bottom]], colour, around) {
  const [across, up] = scale.ranges;
  Object.assign(context, { font: "10px system-ui, sans-serif", lineJoin: "round" });
  const put = (value, [x, y], [dx, dy], align, baseline) => {
    for (const [line, stroke] of [[3, around], [1, colour]]) {
      Object.assign(context, { lineWidth: line, strokeStyle: stroke, fillStyle: colour, textAlign: align, textBaseline: baseline });
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + TICK * dx, y + TICK * dy);
      context.stroke();
      if (stroke === around) context.strokeText(number(value), x + 1.6 * TICK * dx, y + 1.6 * TICK * dy);
      else context.fillText(number(value), x + 1.6 * TICK * dx, y + 1.6 * TICK * dy);
    }
  };
  for (const value of roundNumbers(...across, Math.floor(width / TICK_SPACE))) {
    const x = scale.toPixels(value, up[0])[0];
    if (x > left && x < width - right) put(value, [x, height], [0, -1], "center", "bottom");
  }
  for (const value of roundNumbers(...up, Math.floor(height / TICK_SPACE))) {
    const y = scale.toPixels(across[0], value)[1];
    if (y > top && y < height - bottom) put(value, [0, y], [1, 0], "left", "middle");
  }
}
