import { clamp } from "./numbers.js";

const NEAREST = 40; // times that a map can be magnified
const FARTHEST = 0.5;

// The part of a plane that is seen: two ranges, which are magnified and moved.
export class Viewport {
  constructor() {
    this.home = [[-1, 1], [-1, 1]];
    this.ranges = this.home;
  }

  // Other ranges to return to.
  settle(home) {
    if (JSON.stringify(home) === JSON.stringify(this.home)) return;
    this.home = home;
    this.ranges = home;
  }

  reset() {
    this.ranges = this.home;
  }

  get isHome() {
    return this.ranges === this.home;
  }

  get zoom() {
    return (this.home[0][1] - this.home[0][0]) / (this.ranges[0][1] - this.ranges[0][0]);
  }

  // Magnifies around a point that stays where it is; returns whether that changed anything.
  magnify(factor, point = this.ranges.map(([low, high]) => (low + high) / 2)) {
    const zoom = clamp(this.zoom * factor, FARTHEST, NEAREST);
    const by = this.zoom / zoom;
    if (by === 1) return false;
    this.ranges = this.ranges.map(([low, high], i) => [point[i] + (low - point[i]) * by, point[i] + (high - point[i]) * by]);
    return true;
  }

  // Moves by fractions of what is seen.
  pan(across, up) {
    this.ranges = this.ranges.map(([low, high], i) => {
      const by = [across, up][i] * (high - low);
      return [low + by, high + by];
    });
  }
}
