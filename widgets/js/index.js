import { Actions } from "./actions.js";
import { Arithmetic } from "./arithmetic.js";
import { Brush } from "./brush.js";
import { Channel } from "./channel.js";
import { h, number } from "./dom.js";
import { Images } from "./images.js";
import { LatentMap } from "./map.js";
import { bytesOf, decodePicture, floatsOf, intsOf } from "./pixels.js";
import { Samples } from "./samples.js";
import { ShelfView } from "./shelf.js";
import { Sliders } from "./sliders.js";
import { Stage } from "./stage.js";
import { tabs } from "./tabs.js";
import { Tokens } from "./tokens.js";

// One view of a lab: what its parts share.
class Lab {
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
    this.tokens = null; // its codes (h, w, stages), of a discrete one
    this.channel = new Channel(model, view, {
      frame: (message, buffers, mine) => this.frame(message, buffers, mine),
      sheet: (message, buffers, mine) => this.sheet(message, buffers, mine),
      error: (text) => {
        this.complain(text);
        if (!this.channel.idle) return;
        this.values = [...this.confirmed]; // what was moved goes back to where the latent is
        this.emit("coordinates");
      },
      silent: (yes) => this.silent(yes),
    });
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
    if (mine && !this.alert.hidden) this.complain(""); // it went well this time
    if (message.grid) this.grid = floatsOf(buffers[message.grid]);
    if (message.tokens) this.tokens = intsOf(buffers[message.tokens]);
    const picture = { preview: message.preview, facts: message.facts };
    picture.decoded = decodePicture(message.format, buffers[0], message.size);
    if (message.original === "none") picture.original = "none";
    else if (message.original) picture.original = decodePicture(message.original, buffers[1], message.original_size);
    this.stage.show(picture);
    this.emit("gesture", message.gesture);
    // While more is on its way, a slider is where the hand is.
    if (message.coordinates && this.channel.idle) {
      this.confirm(message.coordinates);
      this.emit("coordinates");
    }
  }

  sheet(message, buffers, mine) {
    // Of a place or of axes that another view has chosen.
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
    this.status.textContent = text;
  }

  complain(text) {
    this.alert.textContent = text;
    this.alert.hidden = !text;
  }

  silent(yes) {
    this.quiet.hidden = !yes;
  }

  progress() {
    if (this.space === null) this.channel.alive();
    const [seen, total] = this.model.get("_progress");
    const known = Boolean(this.space);
    this.state.textContent = known ? "" : total ? `encoding images: ${seen} of ${total}` : "starting";
  }
}

function modelWords({ model, image, latent, device, dtype, codes }) {
  const numbers = latent.reduce((a, b) => a * b, 1);
  const kind = codes ? `codes of ${codes}` : `${numbers} numbers`;
  return `${model} · image ${image[1]}×${image[2]}×${image[0]} → latent ${latent.join("×")} (${kind}) · ${dtype} on ${device}`;
}

function build(lab, el) {
  lab.stage = new Stage(lab);
  lab.status = h("span", { role: "status", class: "ll-status" });
  lab.state = h("span", { role: "status", class: "ll-status" });
  lab.alert = h("p", { role: "alert", class: "ll-alert", hidden: true });
  lab.quiet = h(
    "p",
    { role: "alert", class: "ll-alert", hidden: true },
    "The kernel does not answer. If it was restarted, run this cell again; if it is busy, the lab goes on when it is done.",
  );
  const images = new Images(lab);
  const actions = new Actions(lab);
  const pages = [
    { key: "sliders", title: "Sliders", element: new Sliders(lab).element },
    { key: "map", title: "Map", element: new LatentMap(lab).element },
  ];
  if (lab.info.discrete) pages.push({ key: "tokens", title: "Codes", element: new Tokens(lab).element });
  if (!lab.info.flat) pages.push({ key: "brush", title: "Brush", element: new Brush(lab).element });
  pages.push({ key: "arithmetic", title: "Arithmetic", element: new Arithmetic(lab).element });
  pages.push({ key: "samples", title: "Strips and samples", element: new Samples(lab).element });
  pages.push({ key: "images", title: "Images", element: images.element });
  const work = tabs(lab, "Ways into the latent space", pages);

  const root = h(
    "div",
    { class: "latent-lab", role: "region", "aria-label": "Latent Lab", "data-latent-lab": lab.model.get("_lab") },
    h("header", {}, h("strong", {}, "Latent Lab"), h("span", { class: "ll-model" }, modelWords(lab.info)), lab.state, lab.status),
    lab.quiet,
    lab.alert,
    h("div", { class: "ll-body" }, h("div", { class: "ll-left" }, lab.stage.element, actions.element), work),
    new ShelfView(lab).element,
  );
  // The picture that the notebook's file keeps is for the time without a lab.
  const id = CSS.escape(lab.model.get("_lab"));
  const still = `figure[data-latent-lab-still="${id}"]`;
  root.append(h("style", {}, `${still}, .jp-OutputArea-child:has(${still}), .output_area:has(> ${still}) { display: none !important; }`));
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const typing = event.target.matches("input[type=text], input[type=number], textarea");
    if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !typing) {
      event.preventDefault();
      lab.act({ do: "undo" });
    }
  });
  images.listen(root);
  el.append(root);
}

// The host's theme is in attributes of its page.
function watchTheme(lab) {
  const observer = new MutationObserver(() => lab.emit("theme"));
  const options = { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-id", "style"] };
  for (const element of [document.documentElement, document.body]) observer.observe(element, options);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => lab.emit("theme");
  dark.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    dark.removeEventListener("change", changed);
  };
}

let views = 0;

function render({ model, el }) {
  views += 1;
  const lab = new Lab(model, `${Date.now().toString(36)}-${views}`);
  build(lab, el);
  const readSpace = () => {
    lab.readSpace();
    lab.progress();
  };
  const changes = {
    "change:_space": readSpace,
    "change:_progress": () => lab.progress(),
    "change:_shelf": () => lab.emit("shelf"),
    // Of another view, of Python, or from before this view was opened.
    "change:_picture": () => { if (!lab.stage.drawn) lab.showSaved(); },
  };
  for (const [event, listener] of Object.entries(changes)) model.on(event, listener);
  readSpace();
  lab.emit("shelf");
  lab.showSaved();
  const forgetTheme = watchTheme(lab);
  return () => {
    forgetTheme();
    for (const [event, listener] of Object.entries(changes)) model.off(event, listener);
    for (const cleanup of lab.cleanups) cleanup();
    lab.channel.close();
  };
}

export default { render };
