import { h } from "./dom.js";
import { number } from "./numbers.js";
import { decodePicture, differencePicture, paint } from "./pixels.js";

const GAIN = 4; // of the error picture

// The decoded image, large, and beside it the original and their difference; the measures below.
export class Stage {
  constructor(lab) {
    this.lab = lab;
    this.drawn = 0; // pictures shown so far; a PNG may be decoded only after its successor is shown
    this.original = this.figure("Original", "The image that was encoded");
    this.decoded = this.figure("Decoded", "What the latent decodes to");
    this.error = this.figure(`Error ×${GAIN}`, "Difference between the original and the decoded image; black means none");
    this.name = h("span", { class: "ll-two-lines" });
    this.numbers = h("span");
    this.measured = h("p", { class: "ll-measured" }, this.name, this.numbers);
    this.element = h(
      "section",
      { class: "ll-stage", "aria-label": "Pictures" },
      h(
        "div",
        { class: "ll-figures" },
        this.original.figure,
        this.decoded.figure,
        this.error.figure,
        h("p", { class: "ll-drop", "aria-hidden": "true" }, lab.absent.open ? "Drop to open latents" : "Drop to encode"),
      ),
      this.measured,
    );
    this.hasOriginal = false;
    this.element.classList.add("ll-alone");
  }

  figure(title, words) {
    const [, height, width] = this.lab.info.image; // so that nothing moves when the picture comes
    const canvas = h("canvas", { width, height, role: "img", "aria-label": words, class: "ll-picture" });
    return { canvas, figure: h("figure", { title: words }, h("figcaption", {}, title), canvas), words };
  }

  // Shows a picture, and a new original: undefined keeps the last one, "none" removes it.
  async show({ decoded, original, preview = false, facts }) {
    this.drawn += 1;
    const turn = this.drawn;
    if (original === "none") this.hasOriginal = false;
    else if (original) {
      paint(this.original.canvas, await original);
      this.hasOriginal = true;
    }
    const picture = decoded instanceof Promise ? await decoded : decoded;
    if (turn < this.drawn) return;
    paint(this.decoded.canvas, picture);
    this.decoded.canvas.classList.toggle("ll-preview", Boolean(preview));
    const difference = this.hasOriginal ? differencePicture(this.original.canvas, this.decoded.canvas, GAIN) : null;
    if (difference) paint(this.error.canvas, difference);
    this.element.classList.toggle("ll-alone", !this.hasOriginal);
    this.describe(facts, preview);
    this.lab.emit("picture");
  }

  async showSaved({ decoded, original, facts }) {
    await this.show({
      decoded: decodePicture("png", decoded, []),
      original: original?.byteLength ? decodePicture("png", original, []) : "none",
      facts,
    });
  }

  describe(facts, preview) {
    const info = this.lab.info;
    const name = facts.name + (facts.edited ? " (edited)" : "") + (facts.sampled ? " (sample)" : "");
    const words = [];
    if (facts.psnr !== undefined) words.push(`PSNR ${facts.psnr.toFixed(1)} dB`);
    if (facts.kl !== undefined) words.push(`KL ${number(facts.kl, 4)} nats`);
    if (info.discrete) words.push(`${info.latent[1] * info.latent[2] * info.stages} codes, each one of ${info.codes}`);
    if (preview) words.push("preview");
    this.name.textContent = name;
    this.numbers.textContent = words.join(" · ");
    this.measured.title = [name, ...words].join(" · ");
    this.decoded.canvas.setAttribute("aria-label", `${this.decoded.words}: ${[name, ...words].join(", ")}`);
  }
}
