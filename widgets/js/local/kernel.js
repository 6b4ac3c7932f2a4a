import { floatsOf } from "../pixels.js";
import { Axes } from "./axes.js";
import { LatentEdits } from "./edits.js";
import { History } from "./history.js";
import { decibels, pictureOf, pngOf } from "./pictures.js";
import { TorchRandom } from "./random.js";
import { fromSafetensors, toSafetensors } from "./safetensors.js";
import { SavedLatents } from "./saved.js";
import { LocalSheets } from "./sheets.js";
import { pooled, weighted } from "./vectors.js";
import { Work } from "./work.js";

const SLOW = 0.08; // seconds; a slower decode cannot follow a drag, and a smaller picture comes first
const SMALLEST_PREVIEW = 4; // positions along one side of the latent grid
const SETTLE = 120; // ms of quiet before a slow decoder gives the full size
const BEAT = 2000; // ms between signs of life
const LITERAL = 64; // a latent with more numbers is not spelled out in code

// What a kernel is to the lab, in the page itself. To the front end it is a widget's model: it has the synced traits,
// takes requests by `send`, and answers by messages. Requests are those of panel.py, each a method of the same name.
export class LocalKernel {
  // `page` is what page/contents.py writes.
  constructor(page, decoder) {
    this.traits = page.traits;
    this.shape = page.traits._info.latent;
    this.flat = page.traits._info.flat;
    this.decode = page.decode;
    this.decoder = decoder;
    this.listeners = new Map(); // event -> functions
    this.images = new Map(page.images.map((image) => [image.row, imageOf(image)]));
    this.shown = undefined; // the image whose original was sent last
    this.heart = null;
    const saved = page.traits._shelf.map(({ key, name }, i) => ({ key, name, latent: floatsOf(page.shelf[i]) }));
    this.drawn = new Map(); // key of a saved latent -> its small picture, as PNG
    this.shelf = new SavedLatents(saved, this.images, () => this.publishShelf());
    this.axes = new Axes(page.axes, this.shape, mapped(page.space, floatsOf));
    const attributes = page.attributes.map((each) => ({ ...each, direction: floatsOf(each.direction) }));
    this.edits = new LatentEdits({ shape: this.shape, axes: this.axes, shelf: this.shelf, attributes });
    this.work = new Work((error) => this.tell(error));
    this.sheets = new LocalSheets({ decoder, edits: this.edits, axes: this.axes, shelf: this.shelf, work: this.work, shape: this.shape, previewShrink: () => this.previewShrink });
    const { latent, image, ...state } = page.state;
    this.history = new History({ ...state, latent: floatsOf(latent), image: image && imageOf(image) });
    this.publishShelf();
    this.show({});
  }

  get state() {
    return this.history.state;
  }

  // --- a widget's model ---

  get(name) {
    return this.traits[name];
  }

  set(name, value) {
    this.traits[name] = value;
    this.emit(`change:${name}`);
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((each) => each !== listener));
  }

  save_changes() {} // nobody else has this state

  send(content, _, buffers = []) {
    const tag = { view: content.view, id: content.id };
    queueMicrotask(() => {
      try {
        if (typeof this[`do_${content.do}`] !== "function") throw new Error(`This page cannot do “${content.do}”: open the model in a notebook.`);
        this[`do_${content.do}`](tag, content, buffers);
      } catch (error) {
        this.drop(tag);
        this.tell(error);
      }
    });
    this.heart ??= setInterval(() => this.beat(), BEAT);
  }

  emit(event, ...details) {
    for (const listener of this.listeners.get(event) ?? []) listener(...details);
  }

  answer(message, buffers = []) {
    this.emit("msg:custom", message, buffers);
  }

  reply(tag, content, buffers = []) {
    this.answer({ kind: "reply", ...tag, ...content }, buffers);
  }

  drop(tag) {
    if (tag.id !== undefined) this.answer({ kind: "dropped", ...tag });
  }

  tell(error) {
    this.answer({ kind: "error", text: error.message });
  }

  // The front end must not take a slow decoder for a kernel that is gone.
  beat() {
    if (this.work.running) this.answer({ kind: "working" });
    else {
      clearInterval(this.heart);
      this.heart = null;
    }
  }

  do_alive(tag, { ids }) {
    this.reply(tag, { working: ids });
  }

  // --- the latent ---

  change(state, tag, gesture = null) {
    this.history.change(state, gesture);
    this.show(tag);
  }

  do_edit(tag, { edits, gesture }) {
    this.change(this.edits.edit(this.state, edits), tag, gesture);
  }

  do_combine(tag, { operation, gesture }) {
    this.change(this.edits.combine(operation, this.history.startOf(gesture)), tag, gesture);
  }

  do_posterior(tag, { seed = null }) {
    this.change(this.encoded(this.state, seed), tag);
  }

  do_reset(tag) {
    if (this.state.image) this.change(this.encoded(this.state, this.state.seed), tag);
    else this.change({ latent: this.axes.mean.slice(), image: null, seed: null, name: "mean of the data", edited: true }, tag);
  }

  do_undo(tag) {
    this.history.undo();
    this.show(tag);
  }

  // The state of the mean of the encoded image's posterior, or of a sample of it.
  encoded(state, seed) {
    const { image } = state;
    if (!image) throw new Error("There is no image whose posterior could be sampled: open one first.");
    if (seed === null) return { ...state, latent: image.mean, seed, edited: false };
    if (!image.std) throw new Error("The posterior of this model is a single point: there is nothing to sample.");
    const noise = new TorchRandom(seed).normal(image.mean.length);
    return { ...state, latent: weighted([1, 1], [image.mean, image.std.map((sigma, i) => sigma * noise[i])]), seed, edited: false };
  }

  // --- images and files ---

  do_pick(tag, { index }) {
    const image = this.images.get(index);
    if (!image) throw new Error(`There is no image ${index} in this page.`);
    this.change({ latent: image.mean, image, seed: null, name: image.name, edited: false }, tag);
  }

  do_select(tag, { rows }) {
    this.set("_selection", [...new Set(rows)].sort((a, b) => a - b));
    this.reply(tag, {});
  }

  do_open(tag, { name = "" }, [file]) {
    if (!name.toLowerCase().endsWith(".safetensors")) throw new Error(this.traits._info.absent.open);
    const items = fromSafetensors(file, this.shape).map((item) => this.shelf.add(item.name, item.latent));
    this.do_take(tag, items[0]);
  }

  do_save(tag, { what }) {
    this.work.request(() => this.save(tag, what).catch((error) => { this.drop(tag); throw error; }));
  }

  async save(tag, what) {
    if (what === "png") {
      this.reply(tag, {}, [await pngOf(await this.decoder.decodeFull(this.state.latent))]);
      return;
    }
    const items = [{ name: "current", latent: this.state.latent }, ...(what === "shelf" ? this.shelf.items : [])];
    this.reply(tag, {}, [toSafetensors(items, this.shape, { made_by: "a page of vae_plugin.widgets.LatentLab", model: this.traits._info.model })]);
  }

  do_code(tag) {
    const { latent } = this.state;
    const short = latent.length <= LITERAL;
    const numbers = short ? `torch.tensor([${Array.from(latent).join(", ")}]).view(${this.shape.join(", ")})` : 'load_file("latent.safetensors")["current"]  # the file of "Save latent"';
    const imports = short ? "import torch" : "import torch\nfrom safetensors.torch import load_file";
    const lines = [imports, "", `# vae is the ${this.traits._info.model} of this page, as from_pretrained(...) opens it`, "with torch.no_grad():", `    z = ${numbers}`, `    image = ${this.decode}  # (1, C, H, W)`];
    this.reply(tag, { text: `${lines.join("\n")}\n` });
  }

  // --- the shelf ---

  do_keep(tag, { name }) {
    const { latent, edited, image, name: of } = this.state;
    const words = `${of.split(",")[0]}${edited && image ? " edited" : ""}`;
    this.reply(tag, { key: this.shelf.add(name || words, latent).key });
  }

  do_take(tag, { key }) {
    const { latent, name } = this.shelf.byKey(key);
    this.change({ latent, image: null, seed: null, name, edited: true }, tag);
  }

  do_remove(tag, { key }) {
    this.shelf.remove(key);
    this.reply(tag, {});
  }

  do_rename(tag, { key, name = "" }) {
    this.shelf.rename(key, name);
    this.reply(tag, {});
  }

  publishShelf() {
    const round = (value) => Math.round(1000 * value) / 1000;
    this.set("_shelf", this.shelf.items.map(({ key, name, latent }) => ({ key, name, norm: round(Math.hypot(...latent)), drawn: 0 })));
  }

  do_thumbnails(tag, { keys }) {
    this.work.soon(this.thumbnails(tag, this.shelf.items.filter(({ key }) => keys.includes(key))));
  }

  async *thumbnails(tag, items) {
    try {
      for (const { key, latent } of items) {
        if (this.drawn.has(key)) continue;
        const [picture] = await this.sheets.small([latent]);
        this.drawn.set(key, await pngOf(picture));
        yield;
      }
    } catch (error) {
      this.drop(tag);
      throw error;
    }
    this.reply(tag, { keys: items.map(({ key }) => key), drawn: 0 }, items.map(({ key }) => this.drawn.get(key)));
  }

  // --- sheets ---

  do_strip(tag, content) {
    this.draw("strip", this.sheets.strip(this.state, content), tag);
  }

  do_prior(tag, content) {
    this.draw("prior", this.sheets.prior(content), tag);
  }

  do_manifold(tag, content) {
    this.draw("manifold", this.sheets.manifold(this.state, content), tag);
  }

  do_ends(tag, { axes }) {
    this.draw("ends", this.sheets.along(this.state, axes, 2), tag);
  }

  do_results(tag, { operations, gesture }) {
    this.draw("results", this.sheets.results(operations, this.history.startOf(gesture)), tag);
  }

  do_adopt(tag, { sheet, index }) {
    this.change(this.sheets.adopted(sheet, index), tag);
  }

  draw(name, sheet, tag) {
    const send = (content, pictures) => {
      const length = pictures[0].pixels.length;
      const bytes = new Uint8Array(pictures.length * length);
      pictures.forEach(({ pixels }, i) => bytes.set(pixels, i * length));
      this.answer({ kind: "sheet", ...content, ...tag }, [new DataView(bytes.buffer)]);
    };
    this.sheets.draw(name, sheet, send, () => this.drop(tag));
  }

  // --- pictures ---

  show(tag) {
    const render = () => this.render(tag).catch((error) => { this.drop(tag); throw error; });
    this.work.live(render, () => this.drop(tag));
  }

  // How much to shrink the latent for a decode that follows a drag; 1 if a full one is fast enough.
  get previewShrink() {
    const side = Math.min(this.shape[1], this.shape[2]);
    let shrink = 1;
    while (this.decoder.seconds / shrink ** 2 > SLOW && Math.floor(side / (2 * shrink)) >= SMALLEST_PREVIEW) shrink *= 2;
    return shrink;
  }

  async render(tag) {
    const { state } = this;
    const shrink = this.previewShrink;
    if (shrink === 1) {
      await this.frame(tag, state, await this.decoder.decodeFull(state.latent), false);
      return;
    }
    const small = pooled(state.latent, this.shape, shrink);
    const { pictures: [pixels], size } = await this.decoder.decode([small.latent], small.shape);
    await this.frame(tag, state, { pixels, size }, true);
    this.work.settle(async () => {
      const settled = this.state;
      await this.frame({}, settled, await this.decoder.decodeFull(settled.latent), false);
    }, SETTLE);
  }

  async frame(tag, state, { pixels, size }, preview) {
    const { image, name, edited, seed } = state;
    const facts = { name, edited, sampled: seed !== null };
    if (Number.isInteger(image?.row)) facts.row = image.row;
    if (image?.kl !== undefined) facts.kl = image.kl;
    if (image?.comparable && !preview) facts.psnr = decibels(await image.picture(), { pixels, size });
    const buffers = [new DataView(pixels.buffer)];
    const message = { kind: "frame", ...tag, preview, facts, size, format: "rgba", coordinates: this.axes.coordinates(state.latent), reference: image ? this.axes.coordinates(image.mean) : [], gesture: this.history.gesture };
    if (image !== this.shown) {
      this.shown = image;
      message.original = image ? "png" : "none";
      message.original_size = image?.size ?? [];
      if (image) buffers.push(image.png);
    }
    if (!this.flat && !preview) {
      message.grid = buffers.length;
      buffers.push(new DataView(Float32Array.from(state.latent).buffer));
    }
    this.answer(message, buffers);
  }
}

function mapped(object, of) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, of(value)]));
}

// An encoded image: the posterior's mean and standard deviation, its KL in nats, and the original.
function imageOf({ row, name, png, mean, std, kl, comparable }) {
  let picture = null; // decoded once
  return {
    row,
    name,
    png,
    mean: floatsOf(mean),
    std: std && floatsOf(std),
    kl: kl ?? undefined,
    comparable,
    picture: () => (picture ??= pictureOf(png)),
  };
}
