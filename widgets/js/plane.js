const SIDE = 9; // images in a row and in a column

// SIDE x SIDE decoded images of the plane of a map, drawn behind its points once all have arrived.
export class DecodedPlane {
  constructor() {
    this.pictures = [];
  }

  clear() {
    this.pictures = [];
  }

  // The request for the images of two axes over their ranges.
  static request(x, y, ranges) {
    return { do: "manifold", x, y, ranges, n: SIDE };
  }

  // Takes the next images; returns whether they complete the plane.
  receive({ first, pictures, total }) {
    if (first === 0) this.clear();
    this.pictures.push(...pictures);
    return first + pictures.length === total;
  }

  draw(context, width, height, margin) {
    if (this.pictures.length < SIDE ** 2) return;
    const [cw, ch] = [(width - 2 * margin) / SIDE, (height - 2 * margin) / SIDE];
    const tile = document.createElement("canvas");
    context.globalAlpha = 0.75;
    this.pictures.forEach((picture, i) => {
      Object.assign(tile, { width: picture.width, height: picture.height });
      tile.getContext("2d").putImageData(picture, 0, 0);
      const scale = Math.min(cw / tile.width, ch / tile.height);
      const [across, down] = [tile.width * scale, tile.height * scale];
      const left = margin + (i % SIDE) * cw + (cw - across) / 2;
      const top = margin + Math.floor(i / SIDE) * ch + (ch - down) / 2;
      context.drawImage(tile, left, top, across, down);
    });
    context.globalAlpha = 1;
  }
}
