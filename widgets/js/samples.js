import { WIDE, button, h, labelled, setOptions } from "./dom.js";
import { paint } from "./pixels.js";

const SAMPLES = 24;

// Samples of the prior, or of a Gaussian fitted to the images. Each is a button that makes its latent the current one.
export class Samples {
  constructor(lab) {
    this.lab = lab;
    this.source = h("select", { onchange: () => this.draw() });
    setOptions(this.source, [
      ...(lab.absent.prior ? [] : [{ value: "prior", text: lab.info.discrete ? "the prior, uniform over codes" : "the prior N(0, I)" }]),
      { value: "data", text: "a Gaussian fitted to the images" },
    ]);
    this.seed = h("input", { type: "number", min: 0, step: 1, value: 0, onchange: () => this.draw() });
    this.grid = h("div", { class: "ll-thumbs ll-large", role: "group", "aria-label": "Samples" });
    this.element = h(
      "div",
      {},
      h("div", { class: "ll-form" }, labelled("Samples of", this.source, WIDE), labelled("Seed", this.seed), button("Draw others", () => this.next())),
      this.grid,
      h("p", { class: "ll-hint" }, "Click a picture to continue from it."),
    );
    lab.on("tab:samples", () => { if (!this.grid.childElementCount && lab.space) this.draw(); });
    lab.on("sheet:prior", (sheet) => this.receive(sheet));
  }

  draw() {
    const seed = Math.max(0, Math.floor(Number(this.seed.value) || 0));
    this.lab.channel.ask({ do: "prior", source: this.source.value, seed, n: SAMPLES }).catch(() => {});
  }

  next() {
    this.seed.value = String(Math.max(0, Math.floor(Number(this.seed.value) || 0)) + 1);
    this.draw();
  }

  receive({ first, pictures, words }) {
    if (first === 0) this.grid.replaceChildren();
    pictures.forEach((picture, i) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      paint(canvas, picture);
      const index = first + i;
      const title = words[index];
      this.grid.append(h("button", { type: "button", class: "ll-thumb", title, "aria-label": title, onclick: () => this.lab.act({ do: "adopt", sheet: "prior", index }) }, canvas));
    });
  }
}
