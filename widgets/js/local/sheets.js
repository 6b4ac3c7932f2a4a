import { number } from "../numbers.js";
import { thumbnailOf } from "./pictures.js";
import { TorchRandom } from "./random.js";
import { pooled } from "./vectors.js";

const SMALL = 96; // pixels of a small picture, at most
const BATCH = 8; // pictures that a fast decoder makes at once
const FAST = 0.05; // seconds of a decode
const ADOPTABLE = ["strip", "prior"]; // sheets whose pictures can become the current latent

// What sheets show, see samples.py: each is { latents, words, base }, `base` being the state they are edits of.
export class LocalSheets {
  constructor({ decoder, edits, axes, shelf, work, shape, previewShrink }) {
    this.decoder = decoder;
    this.edits = edits;
    this.axes = axes;
    this.shelf = shelf;
    this.work = work;
    this.shape = shape;
    this.previewShrink = previewShrink;
    this.sheets = new Map(); // name -> the last one
    this.numbers = 0;
  }

  strip(state, { axis = null, axes = null, low, high, a, b, method = "slerp", steps = 9 }) {
    if (axes) return this.along(state, axes, steps);
    const shares = Array.from({ length: steps }, (_, i) => i / (steps - 1));
    if (axis !== null) {
      const values = shares.map((share) => low + share * (high - low));
      return { latents: values.map((value) => this.axes.move(state.latent, axis, value)), words: values.map((value) => `${axis} = ${number(value)}`), base: state };
    }
    const [from, to] = [this.shelf.byKey(a), this.shelf.byKey(b)];
    const words = shares.map((share) => `${share.toFixed(2)} of the way from ${from.name} to ${to.name}`);
    return { latents: shares.map((share) => this.edits.between(from.latent, to.latent, share, method)), words };
  }

  // A walk along each of some axes, over the ranges that their sliders show.
  along(state, axes, steps) {
    const walks = axes.map((key) => this.strip(state, { axis: key, ...this.axes.find(key), steps }));
    return { latents: walks.flatMap(({ latents }) => latents), words: walks.flatMap(({ words }) => words), base: state, details: { axes } };
  }

  results(operations, start) {
    return { latents: operations.map((operation) => this.edits.combine(operation, start).latent), words: [] };
  }

  prior({ source = "prior", n = 12, seed = 0 }) {
    const random = new TorchRandom(seed);
    const words = Array.from({ length: n }, (_, i) => `sample ${i + 1} of seed ${seed}`);
    if (source === "data") return { latents: this.axes.sample(n, random), words };
    const length = this.shape.reduce((product, side) => product * side);
    const numbers = random.normal(n * length);
    return { latents: words.map((_, i) => numbers.slice(i * length, (i + 1) * length)), words };
  }

  manifold(state, { x, y, ranges: [[left, right], [bottom, top]], n = 9, rows: tall = n }) {
    const middles = (count) => Array.from({ length: count }, (_, i) => (i + 0.5) / count);
    const rows = middles(tall).map((share) => top - (top - bottom) * share);
    const columns = middles(n).map((share) => left + (right - left) * share);
    const at = (across, up) => this.axes.move(this.axes.move(state.latent, x, across), y, up);
    return { latents: rows.flatMap((up) => columns.map((across) => at(across, up))), words: [], details: { axes: [x, y], ranges: [[left, right], [bottom, top]], columns: n } };
  }

  // Decodes a sheet a few pictures at a time: `send` gets each part, `dropped` is called if another replaces it.
  draw(name, sheet, send, dropped) {
    this.numbers += 1;
    this.sheets.set(name, sheet);
    this.work.soon(this.parts(name, sheet, this.numbers, send, dropped));
  }

  async *parts(name, sheet, number, send, dropped) {
    try {
      for (let first = 0; first < sheet.latents.length; first += this.batch) {
        const pictures = await this.small(sheet.latents.slice(first, first + this.batch));
        if (this.sheets.get(name) !== sheet) {
          dropped();
          return;
        }
        send({ sheet: name, number, first, count: pictures.length, total: sheet.latents.length, size: pictures[0].size, words: sheet.words, ...sheet.details }, pictures);
        yield;
      }
    } catch (error) {
      dropped();
      throw error;
    }
  }

  get batch() {
    return this.decoder.seconds < FAST ? BATCH : 1;
  }

  // Small pictures { pixels, size } of latents.
  async small(latents) {
    let shrink = 1;
    while (Math.max(...this.decoder.imageSize) / (2 * shrink) >= SMALL && this.previewShrink() > shrink) shrink *= 2;
    const shrunk = latents.map((latent) => pooled(latent, this.shape, shrink));
    const { pictures, size } = await this.decoder.decode(shrunk.map(({ latent }) => latent), shrunk[0].shape);
    return pictures.map((pixels) => thumbnailOf({ pixels, size }, SMALL));
  }

  // The state of a picture of a sheet.
  adopted(name, index) {
    const latent = ADOPTABLE.includes(name) ? this.sheets.get(name)?.latents[index] : undefined;
    if (!latent) throw new Error(`There is no picture ${index} in ${name} to continue from: draw it first.`);
    const { base, words } = this.sheets.get(name);
    return { image: null, seed: null, name: words[index], ...base, latent, edited: true };
  }
}
