import { clamp } from "./numbers.js";

const TILE = 56; // CSS pixels across, about
const MOST_TILES = 14; // tiles along one side

// Decoded images that cover a map, each at its place on the plane; they move and grow with it.
export class DecodedPlane {
  constructor() {
    this.clear();
  }

  clear() {
    this.layers = []; // the latest last: while it is incomplete, the one before shows through
  }

  get empty() {
    return this.layers.length === 0;
  }

  /**
   * The request for images that cover a canvas without gaps: tiles of the images' proportions, some beyond the border.
   *
   * @param {string} x
   * @param {string} y
   * @param {number[][]} ranges
   * @param {number[]} size
   * @param {number} aspect
   */
  static request(x, y, [[left, right], [bottom, top]], [width, height], aspect) {
    const columns = clamp(Math.round(width / TILE), 3, MOST_TILES);
    const tile = width / columns;
    const rows = clamp(Math.ceil((height * aspect) / tile), 1, MOST_TILES);
    const reach = (top - bottom) * ((rows * tile) / aspect / height);
    return { do: "manifold", x, y, ranges: [[left, right], [top - reach, top]], n: columns, rows };
  }

  receive({ first, pictures, ranges, columns, total }) {
    if (first === 0) this.layers = [...this.layers.slice(-1), { tiles: [], ranges, columns, total }];
    const layer = this.layers[this.layers.length - 1];
    if (!layer) return;
    for (const picture of pictures) {
      const tile = document.createElement("canvas");
      Object.assign(tile, { width: picture.width, height: picture.height });
      tile.getContext("2d").putImageData(picture, 0, 0);
      layer.tiles.push(tile);
    }
    if (layer.tiles.length === layer.total) this.layers = [layer];
  }

  draw(context, scale) {
    for (const { tiles, ranges, columns, total } of this.layers) {
      const [[left, right], [bottom, top]] = ranges;
      const [x0, y0] = scale.toPixels(left, top);
      const [x1, y1] = scale.toPixels(right, bottom);
      const rows = total / columns;
      tiles.forEach((tile, i) => {
        // Whole pixels, so that no seam is seen between two tiles.
        const across = [0, 1].map((k) => Math.round(x0 + ((x1 - x0) * ((i % columns) + k)) / columns));
        const down = [0, 1].map((k) => Math.round(y0 + ((y1 - y0) * (Math.floor(i / columns) + k)) / rows));
        context.drawImage(tile, across[0], down[0], across[1] - across[0], down[1] - down[0]);
      });
    }
  }
}
