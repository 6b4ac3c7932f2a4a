const SIDE = 9;

// What the plane of a map decodes to: SIDE x SIDE pictures behind its points, once all of them have come.
export class DecodedPlane {
  constructor() {
    this.pictures = [];
  }

  clear() {
    this.pictures = [];
  }

  // The request for the pictures of two axes over their ranges.
  static request(x, y, ranges) {
    return { do: "manifold", x, y, ranges, n: SIDE };
  }

  // Takes the next pictures; whether they were the last.
  receive({ first, pictures, total }) {
    if (first === 0) this.clear();
    this.pictures.push(...pictures);
    return first + pictures.length === total;
  }

  draw(context, width, height, margin) {
    if (this.pictures.length < SIDE ** 2) return;
    const [w, high] = [(width - 2 * margin) / SIDE, (height - 2 * margin) / SIDE];
    const tile = document.createElement("canvas");
    context.globalAlpha = 0.75;
    this.pictures.forEach((picture, i) => {
      Object.assign(tile, { width: picture.width, height: picture.height });
      tile.getContext("2d").putImageData(picture, 0, 0);
      const scale = Math.min(w / tile.width, high / tile.height);
      const [across, down] = [tile.width * scale, tile.height * scale];
      const left = margin + (i % SIDE) * w + (w - across) / 2;
      context.drawImage(tile, left, margin + Math.floor(i / SIDE) * high + (high - down) / 2, across, down);
    });
    context.globalAlpha = 1;
  }
}
