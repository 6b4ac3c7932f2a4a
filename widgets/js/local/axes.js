import { weighted } from "./vectors.js";

// Coordinates along the axes of a latent space, and moves along them, see space.py.
export class Axes {
  /**
   * @param {any[]} axes
   * @param {number[]} shape
   * @param {Record<string, Float32Array>} space as page/contents.py writes it
   */
  constructor(axes, shape, { mean, directions, scales, slopes, middles }) {
    const [channels, height, width] = shape;
    this.positions = height * width;
    this.length = channels * this.positions;
    this.list = axes; // { key, group, index } each
    this.mean = mean;
    this.directions = rowsOf(directions, this.length);
    this.scales = scales;
    this.slopes = rowsOf(slopes, this.length);
    this.middles = middles;
  }

  coordinates(z) {
    return this.list.map((axis) => this.coordinate(z, axis));
  }

  coordinate(z, { group, index }) {
    if (group === "dimensions") return z[index];
    if (group === "channels") return this.channelMean(z, index);
    if (group === "labels") return this.along(z, this.slopes[index]) / dot(this.slopes[index]) + this.middles[index];
    return this.along(z, this.directions[index]) / this.scales[index];
  }

  find(key) {
    const axis = this.list.find((each) => each.key === key);
    if (!axis) throw new Error(`There is no axis ${key}: the axes are ${this.list.map((each) => each.key).join(", ")}.`);
    return axis;
  }

  // The latent whose coordinate along an axis is `value`.
  move(z, key, value) {
    const axis = this.find(key);
    const moved = Float32Array.from(z);
    const { group, index } = axis;
    if (group === "dimensions") moved[index] = value;
    else if (group === "channels") {
      const change = value - this.channelMean(z, index);
      for (let p = 0; p < this.positions; p += 1) moved[index * this.positions + p] += change;
    } else {
      const change = value - this.coordinate(z, axis);
      if (group === "labels") return weighted([1, change], [z, this.slopes[index]]);
      return weighted([1, change * this.scales[index]], [z, this.directions[index]]);
    }
    return moved;
  }

  // Latents from a Gaussian with the mean of the data and its variance along the directions.
  sample(count, random) {
    const width = this.scales.length;
    const weights = random.normal(count * width).map((weight, i) => weight * this.scales[i % width]);
    return Array.from({ length: count }, (_, n) => weighted([1, ...weights.subarray(n * width, (n + 1) * width)], [this.mean, ...this.directions]));
  }

  channelMean(z, channel) {
    let sum = 0;
    for (let p = 0; p < this.positions; p += 1) sum += z[channel * this.positions + p];
    return sum / this.positions;
  }

  along(z, direction) {
    let sum = 0;
    for (let i = 0; i < this.length; i += 1) sum += (z[i] - this.mean[i]) * direction[i];
    return sum;
  }
}

function dot(vector) {
  return vector.reduce((sum, x) => sum + x * x, 0);
}

function rowsOf(flat, length) {
  return Array.from({ length: flat.length / length }, (_, i) => flat.subarray(i * length, (i + 1) * length));
}
