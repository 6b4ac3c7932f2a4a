import { clamp } from "./numbers.js";

// Converts two coordinates to pixels of a canvas and back. y grows upwards; a margin stays free on all sides.
export class PlaneScale {
  /**
   * @param {number[][]} ranges
   * @param {number[]} size
   * @param {number} margin
   */
  constructor([[left, right], [bottom, top]], [width, height], margin) {
    this.across = new Interval(left, right, margin, width - margin);
    this.up = new Interval(bottom, top, height - margin, margin);
    this.ranges = [[left, right], [bottom, top]];
  }

  toPixels(x, y) {
    return [this.across.toPixel(x), this.up.toPixel(y)];
  }

  // The coordinates at a pixel, clamped to the ranges.
  toCoordinates(left, top) {
    return [this.across.toValue(left), this.up.toValue(top)];
  }

  // A point moved by steps of 1/count of each range.
  moved(point, steps, count) {
    return point.map((value, i) => value + (steps[i] * (this.ranges[i][1] - this.ranges[i][0])) / count);
  }
}

class Interval {
  constructor(low, high, first, last) {
    this.low = low;
    this.high = high;
    this.first = first;
    this.last = last;
  }

  toPixel(value) {
    return this.first + ((value - this.low) / (this.high - this.low)) * (this.last - this.first);
  }

  toValue(pixel) {
    return this.low + clamp((pixel - this.first) / (this.last - this.first), 0, 1) * (this.high - this.low);
  }
}

// The range of the values, or [low, high] if they are all equal, widened by `padding` on both sides.
export function paddedRange(values, low, high, padding = 0.08) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) [least, most] = [Math.min(least, value), Math.max(most, value)];
  if (!(most > least)) [least, most] = [low, high];
  const pad = padding * (most - least);
  return [least - pad, most + pad];
}

// Viridis at six stops: lightness grows from each to the next.
const VIRIDIS = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

// The colour for t from 0 to 1, as CSS text.
export function viridis(t) {
  const at = clamp(t, 0, 1) * (VIRIDIS.length - 1);
  const i = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const mixed = VIRIDIS[i].map((low, k) => Math.round(low + (at - i) * (VIRIDIS[i + 1][k] - low)));
  return `rgb(${mixed.join(",")})`;
}
