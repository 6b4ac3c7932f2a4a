import { Channel } from "./channel.js";
import { number } from "./dom.js";
import { Notices } from "./notices.js";
import { bytesOf, decodePicture, floatsOf, intsOf } from "./pixels.js";
import { Stage } from "./stage.js";

// One view of a lab: what its parts share.
export class Lab {
  constructor(model, view) {
    this.model = model;
    this.listeners = new Map();
    this.info = model.get("_info");
    this.space = null; // { axes, images }
    this.points = new Float32Array();
    this.values = []; // coordinates of the current latent, in the order of the axes
    this.confirmed = []; // the same as the kernel last said; `values` may be ahead of it
    this.cleanups = []; // what ends with the view
    this.grid = null; // the latent (C, h, w), of a spatial one
    this.tokens = null; // its indices (h, w, stages), of a discrete one
    this.notices = new Notices();
    this.channel = new Channel(model, view, {
      frame: (message, buffers, mine) => this.frame(message, buffers, mine),
      sheet: (message, buffers, mine) => this.sheet(message, buffers, mine),
      error: (text) => {
        this.complain(text);
        if (!this.channel.idle) return;
        this.values = [...this.confirmed]; // what was moved goes back to where the latent is
        this.emit("coordinates");
      },
      silent: (yes) => this.notices.silent(yes),
    });
    this.stage = new Stage(this);
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  emit(event, detail) {
    for (const listener of this.listeners.get(event) ?? []) listener(detail);
  }

  get shelf() {
    return this.model.get("_shelf");
  }

  // --- the latent space ---

  readSpace() {
    const space = this.model.get("_space");
    if (!space.axes) return;
    this.points = floatsOf(this.model.get("_points"));
    this.space = space;
    if (this.values.length !== space.axes.length) this.confirm(space.coordinates);
    this.emit("space");
  }

  confirm(coordinates) {
    this.confirmed = [...coordinates];
    this.values = [...coordinates];
  }

  coordinate(key) {
    const at = this.space ? this.space.axes.findIndex((axis) => axis.key === key) : -1;
    return at < 0 ? undefined : this.values[at];
  }

  // The coordinates of all images along an axis.
  column(key) {
    const width = this.space.axes.length;
    const at = this.space.axes.findIndex((axis) => axis.key === key);
    return Array.from({ length: this.space.images }, (_, i) => this.points[i * width + at]);
  }

  // Coordinates as they will be, so that the next key press goes on from there and not from what the kernel last said.
  expect(edits) {
    for (const { axis, value } of edits) {
      const at = this.space.axes.findIndex(({ key }) => key === axis);
      if (at >= 0) this.values[at] = value;
    }
  }

  imageWords(i) {
    if (i < 0) return "none";
    const row = this.space.rows[i];
    const labels = this.info.labels.map(({ name, names, values }) => `${name} ${names ? names[values[row]] : number(values[row] ?? NaN)}`);
    return [`image ${row + 1}`, ...labels].join(", ");
  }

  // --- from the kernel ---

  frame(message, buffers, mine) {
    if (mine && this.notices.complaining) this.complain(""); // it went well this time
    if (message.grid) this.grid = floatsOf(buffers[message.grid]);
    if (message.tokens) this.tokens = intsOf(buffers[message.tokens]);
    const known = !message.original || message.original === "none";
    this.stage.show({
      preview: message.preview,
      facts: message.facts,
      decoded: decodePicture(message.format, buffers[0], message.size),
      original: known ? message.original : decodePicture(message.original, buffers[1], message.original_size),
    });
    this.emit("gesture", message.gesture);
    // While more is on its way, a slider is where the hand is.
    if (message.coordinates && this.channel.idle) {
      this.confirm(message.coordinates);
      this.emit("coordinates");
    }
  }

  sheet(message, buffers, mine) {
    // Of a position or of axes that another view has chosen.
    if (!mine && ["palette", "manifold"].includes(message.sheet)) return;
    const [width, height] = message.size;
    const bytes = bytesOf(buffers[0]);
    const length = width * height * 4;
    const pictures = Array.from({ length: message.count }, (_, i) => new ImageData(bytes.slice(i * length, (i + 1) * length), width, height));
    this.emit(`sheet:${message.sheet}`, { ...message, pictures });
  }

  async showSaved() {
    const picture = this.model.get("_picture");
    if (!picture.decoded) return;
    if (picture.grid) this.grid = floatsOf(picture.grid);
    if (picture.tokens) this.tokens = intsOf(picture.tokens);
    await this.stage.showSaved(picture);
    if (picture.coordinates.length) {
      this.confirm(picture.coordinates);
      this.emit("coordinates");
    }
  }

  // Asks for something; what goes wrong is said in the panel, and the answer is then undefined.
  async act(message, buffers) {
    this.say("");
    this.complain("");
    try {
      return await this.channel.ask(message, buffers);
    } catch {
      return undefined; // the kernel has said why
    }
  }

  // --- words ---

  say(text) {
    this.notices.say(text);
  }

  complain(text) {
    this.notices.complain(text);
  }

  progress() {
    if (this.space === null) this.channel.alive();
    const [seen, total] = this.model.get("_progress");
    this.notices.progress(this.space ? "" : total ? `encoding images: ${seen} of ${total}` : "starting");
  }
}
