const TICK = 5; // its length in pixels
const TICK_SPACE = 70; // pixels from one to the next, at least
const TICK_MARGIN = [12, 8]; // pixels across and up from a tick to words beside it
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
 * Numbers along the lower and the left side of a map, outlined so that they show on pictures; only where the sides
 * are free of words: from pixel to pixel of the lower side, and of the left one.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {any} scale
 * @param {number[]} size
 * @param {number[][]} free
 * @param {string} colour
 * @param {string} around
 */
export function drawTicks(context, scale, [width, height], [[left, right], [top, bottom]], colour, around) {
  const [across, up] = scale.ranges;
  Object.assign(context, { font: "10px system-ui, sans-serif", lineJoin: "round", fillStyle: colour });
  const put = (value, [x, y], [dx, dy]) => {
    const words = /** @type {[string, number, number]} */ ([String(value), x + 1.6 * TICK * dx, y + 1.6 * TICK * dy]);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + TICK * dx, y + TICK * dy);
    Object.assign(context, { lineWidth: 3, strokeStyle: around });
    context.stroke();
    context.strokeText(...words);
    Object.assign(context, { lineWidth: 1, strokeStyle: colour });
    context.stroke();
    context.fillText(...words);
  };
  Object.assign(context, { textAlign: "center", textBaseline: "bottom" });
  for (const value of roundNumbers(...across, Math.floor(width / TICK_SPACE))) {
    const x = scale.toPixels(value, up[0])[0];
    if (x > left + TICK_MARGIN[0] && x < right - TICK_MARGIN[0]) put(value, [x, height], [0, -1]);
  }
  Object.assign(context, { textAlign: "left", textBaseline: "middle" });
  for (const value of roundNumbers(...up, Math.floor(height / TICK_SPACE))) {
    const y = scale.toPixels(across[0], value)[1];
    if (y > top + TICK_MARGIN[1] && y < bottom - TICK_MARGIN[1]) put(value, [0, y], [1, 0]);
  }
}
