import { themeColour } from "./canvas.js";
import { drawMarker, markersOf } from "./marks.js";
import { clamp } from "./numbers.js";

// The images on a map: small pictures with a border in the colour of their label, or marks where there is no picture.
export class MapImages {
  constructor(lab, canvas) {
    this.lab = lab;
    this.canvas = canvas;
  }

  // The side of a small picture: so that they cover about half of the map, and more when it is magnified.
  /**
   * @param {number[]} size
   * @param {number} zoom
   */
  side([width, height], zoom) {
    const pictures = Math.max(1, Math.min(this.lab.space.count, this.lab.gallery.rows.length));
    return clamp(Math.sqrt((width * height) / pictures) * 0.75, 18, 64) * clamp(zoom, 1, 8) ** 0.5;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./scales.js").PlaneScale} scale
   * @param {string[]} axes
   * @param {number[]} size
   * @param {number} zoom
   * @param {any} label
   */
  draw(context, scale, [x, y], size, zoom, label) {
    const { gallery, space } = this.lab;
    const places = this.places(scale, [x, y]);
    const markers = markersOf(label, space.rows, this.canvas);
    const side = this.side(size, zoom);
    const [w, v] = gallery.size;
    const [across, down] = [(side * w) / Math.max(w, v), (side * v) / Math.max(w, v)];
    const selected = new Set(this.lab.selection);
    const [accent, background] = ["--ll-accent", "--ll-background"].map((name) => themeColour(this.canvas, name));
    // Those that are selected lie over the others, and the open one over all.
    const rank = (i) => Number(space.rows[i] === this.lab.row) * 2 + Number(selected.has(space.rows[i]));
    const order = [...places.keys()].sort((a, b) => rank(a) - rank(b));
    for (const i of order) {
      const row = space.rows[i];
      const [left, top] = places[i];
      if (left < -side || top < -side || left > size[0] + side || top > size[1] + side) continue;
      const { colour, shape } = markers.of(i);
      context.globalAlpha = selected.size && !selected.has(row) ? 0.25 : 1;
      if (gallery.has(row)) {
        const strong = row === this.lab.row || selected.has(row);
        const border = strong ? 3 : label ? 2 : 1;
        context.fillStyle = strong ? accent : label ? colour : background;
        context.fillRect(left - across / 2 - border, top - down / 2 - border, across + 2 * border, down + 2 * border);
        gallery.draw(context, row, left - across / 2, top - down / 2, across, down);
      }
      if (!gallery.has(row) || label?.names) {
        context.fillStyle = colour;
        context.strokeStyle = background;
        context.lineWidth = 1;
        const corner = gallery.has(row) ? [left - across / 2, top - down / 2] : [left, top];
        drawMarker(context, corner, shape, 4);
      }
    }
    context.globalAlpha = 1;
    return markers;
  }

  /**
   * The pixels of all images.
   *
   * @param {import("./scales.js").PlaneScale} scale
   * @param {string[]} axes
   */
  places(scale, [x, y]) {
    const [xs, ys] = [this.lab.space.column(x), this.lab.space.column(y)];
    return xs.map((value, i) => scale.toPixels(value, ys[i]));
  }

  /**
   * The image nearest to a pixel: { index, distance }.
   *
   * @param {import("./scales.js").PlaneScale} scale
   * @param {string[]} axes
   * @param {number[]} pixel
   */
  nearest(scale, axes, [left, top]) {
    let [index, distance] = [-1, Infinity];
    this.places(scale, axes).forEach(([x, y], i) => {
      const away = Math.hypot(x - left, y - top);
      if (away < distance) [index, distance] = [i, away];
    });
    return { index, distance };
  }
}
