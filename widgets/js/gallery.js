import { h } from "./dom.js";
import { bytesOf, decodePicture } from "./pixels.js";

// What a picture of a latent on the shelf is kept under: other bands are another picture.
export function pictureName({ key, drawn }) {
  return `${key}:${drawn}`;
}

// Small pictures of the lab's images, and of the latents on its shelf.
export class Gallery {
  constructor(lab) {
    this.lab = lab;
    this.rows = []; // numbers of the images that have a small picture
    this.names = [];
    this.places = new Map(); // number of an image -> its place on the sheet
    this.sheet = null;
    this.size = [1, 1];
    this.columns = 1;
    lab.follow("_thumbnails", () => this.fill());
  }

  async fill() {
    const { size, columns, rows, png, names } = this.lab.model.get("_thumbnails");
    if (!rows) return;
    const sheet = await decodePicture("png", png, []);
    this.sheet = sheet;
    this.size = size;
    this.columns = columns;
    this.rows = rows;
    this.names = names;
    this.places = new Map(rows.map((row, at) => [row, at]));
    this.lab.emit("gallery");
  }

  has(row) {
    return this.places.has(row);
  }

  name(row) {
    return this.names[this.places.get(row)] ?? `image ${row}`;
  }

  // Draws an image into a rectangle of its own proportions.
  draw(context, row, left, top, width, height) {
    const at = this.places.get(row);
    const [w, v] = this.size;
    context.drawImage(this.sheet, (at % this.columns) * w, Math.floor(at / this.columns) * v, w, v, left, top, width, height);
  }

  // A picture of an image as an element.
  picture(row) {
    const [width, height] = this.size;
    const canvas = h("canvas", { width, height, "aria-hidden": "true" });
    this.draw(canvas.getContext("2d"), row, 0, 0, width, height);
    return canvas;
  }

  // A picture of a latent on the shelf; dots until it is decoded.
  saved(png) {
    if (!png?.byteLength) return h("span", { class: "ll-waiting" }, "…");
    const bytes = Array.from(bytesOf(png), (byte) => String.fromCharCode(byte)).join("");
    return h("img", { src: `data:image/png;base64,${btoa(bytes)}`, alt: "", draggable: false });
  }
}
