import { Channel } from "./channel.js";
import { Gallery, pictureName } from "./gallery.js";
import { Later } from "./later.js";
import { Notices } from "./notices.js";
import { Operands } from "./operands.js";
import { bytesOf, decodePicture, floatsOf, intsOf } from "./pixels.js";
import { LatentSpace } from "./space.js";
import { Stage } from "./stage.js";

const CHANGE_PAUSE = 300; // ms of quiet after which what the user did counts as one change

// One view of a lab: the state that its parts share, and the events that tell them of changes.
export class Lab {
  constructor(model, view) {
    this.model = model;
    this.listeners = new Map();
    this.cleanups = [];
    this.info = model.get("_info");
    this.space = null; // a LatentSpace, once the images are encoded
    this.values = []; // coordinates of the current latent, in the order of the axes
    this.confirmed = []; // the same as last sent by the kernel; `values` may be ahead
    this.reference = []; // those of the encoder's latent; none for a latent that was not encoded
    this.row = null; // number of the image that the latent comes from, among the lab's images
    this.tab = ""; // key of the page that is shown
    this.grid = null; // the latent (C, h, w), if it is spatial
    this.indices = null; // indices (h, w, stages) of its codes, if it is discrete
    this.notices = new Notices();
    this.channel = new Channel(model, view, {
      frame: (message, buffers, mine) => this.frame(message, buffers, mine),
      sheet: (message, buffers, mine) => this.sheet(message, buffers, mine),
      error: (text) => {
        this.complain(text);
        if (!this.channel.idle) return;
        this.values = [...this.confirmed]; // sliders return to the latent that the kernel has
        this.emit("coordinates");
      },
      silent: (yes) => this.notices.silent(yes),
      working: (yes) => this.notices.working(yes),
    });
    this.changed = new Later(CHANGE_PAUSE, () => {
      model.set("changes", (model.get("changes") ?? 0) + 1);
      model.save_changes();
    });
    this.onClose(() => this.changed.cancel());
    this.gallery = new Gallery(this);
    this.operands = new Operands(this);
    this.stage = new Stage(this);
  }

  // --- events ---

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  emit(event, detail) {
    for (const listener of this.listeners.get(event) ?? []) listener(detail);
  }

  // Calls the listener at every change of a trait, until the view is closed.
  follow(trait, listener) {
    this.model.on(`change:${trait}`, listener);
    this.onClose(() => this.model.off(`change:${trait}`, listener));
  }

  onClose(cleanup) {
    this.cleanups.push(cleanup);
  }

  close() {
    for (const cleanup of this.cleanups) cleanup();
    this.channel.close();
  }

  // What this lab cannot do, and why: { open, path, codes, prior, bands }, all empty where there is a kernel.
  get absent() {
    return this.info.absent ?? {};
  }

  get shelf() {
    const pictures = this.model.get("_shelf_pictures") ?? {};
    return this.model.get("_shelf").map((item) => ({ ...item, png: item.png ?? pictures[pictureName(item)] }));
  }

  // Numbers of the images that are selected on the map.
  get selection() {
    return this.model.get("_selection") ?? [];
  }

  select(rows) {
    return this.act({ do: "select", rows });
  }

  // --- coordinates of the current latent ---

  readSpace() {
    const space = this.model.get("_space");
    if (!space.axes) return;
    this.space = new LatentSpace(space, floatsOf(this.model.get("_points")), this.info.labels, this.info.names);
    this.reference = space.reference ?? []; // axes of more images are others, of the same number
    if (this.channel.idle || this.values.length !== space.axes.length) this.confirm(space.coordinates);
    this.emit("space");
  }

  confirm(coordinates) {
    this.confirmed = [...coordinates];
    this.values = [...coordinates];
  }

  coordinate(key) {
    const at = this.space?.indexOf(key) ?? -1;
    return at < 0 ? undefined : this.values[at];
  }

  // Applies edits before the kernel answers, so that the next key press continues from them.
  expect(edits) {
    for (const { axis, value } of edits) {
      const at = this.space.indexOf(axis);
      if (at >= 0) this.values[at] = value;
    }
  }

  // --- from the kernel ---

  frame(message, buffers, mine) {
    if (mine && this.notices.complaining) this.complain(""); // this request succeeded
    if (mine) this.changed.soon();
    if (message.grid) this.grid = floatsOf(buffers[message.grid]);
    if (message.indices) this.indices = intsOf(buffers[message.indices]);
    if (message.reference) this.reference = message.reference;
    this.row = message.facts.row ?? null;
    const known = !message.original || message.original === "none";
    this.stage.show({
      preview: message.preview,
      facts: message.facts,
      decoded: decodePicture(message.format, buffers[0], message.size),
      original: known ? message.original : decodePicture(message.original, buffers[1], message.original_size),
    });
    this.emit("gesture", message.gesture);
    // While requests are under way, sliders stay where the user has put them.
    if (message.coordinates && this.channel.idle) {
      this.confirm(message.coordinates);
      this.emit("coordinates");
    }
  }

  sheet(message, buffers, mine) {
    // These belong to what is chosen in another view.
    if (!mine && ["palette", "manifold", "ends", "results"].includes(message.sheet)) return;
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
    if (picture.indices) this.indices = intsOf(picture.indices);
    this.reference = picture.reference ?? [];
    this.row = picture.facts.row ?? null;
    await this.stage.showSaved(picture);
    if (picture.coordinates.length) {
      this.confirm(picture.coordinates);
      this.emit("coordinates");
    }
  }

  // Sends a request that changes the lab. Resolves to undefined if it failed; the lab then shows why.
  async act(message, buffers) {
    const answer = await this.ask(message, buffers);
    if (answer) this.changed.soon();
    return answer;
  }

  // The same for a request that changes nothing.
  async ask(message, buffers) {
    this.say("");
    this.complain("");
    try {
      return await this.channel.ask(message, buffers);
    } catch {
      return undefined; // the error is already shown
    }
  }

  // --- messages to the user ---

  say(text) {
    this.notices.say(text);
  }

  complain(text) {
    this.notices.complain(text);
  }

  // Errors that no request of this view has caused.
  showProblems() {
    this.notices.problems(this.model.get("_problems"), (number) => this.channel.ask({ do: "seen", number }));
  }

  progress() {
    if (!this.space?.complete) this.channel.alive();
    const { count, total, complete } = this.space ?? {};
    this.notices.say(count < total ? `axes of ${count} of ${total} images${complete ? "" : ", more are being encoded"}` : "");
    this.emit("progress");
  }
}
