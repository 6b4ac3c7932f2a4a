import { button, h, labelled, setOptions } from "./dom.js";
import { number } from "./numbers.js";
import { paint } from "./pixels.js";

// A row of small pictures. Each is a button that makes its latent the current one.
class PictureRow {
  constructor(lab, sheet, label) {
    this.element = h("div", { class: "ll-strip", role: "group", "aria-label": label });
    lab.on(`sheet:${sheet}`, ({ first, pictures, words }) => {
      if (first === 0) this.element.replaceChildren();
      pictures.forEach((picture, i) => {
        const canvas = h("canvas", { "aria-hidden": "true" });
        paint(canvas, picture);
        const index = first + i;
        const title = words[index];
        this.element.append(
          h("button", { type: "button", class: "ll-thumb", title, "aria-label": title, onclick: () => lab.act({ do: "adopt", sheet, index }) }, canvas),
        );
      });
    });
  }
}

// Traversals along an axis, paths between two saved latents, and samples of the prior.
export class Samples {
  constructor(lab) {
    this.lab = lab;
    this.shown = null; // what the range of `along` was filled for
    this.along = h("select", { onchange: () => this.chosen() });
    this.low = h("input", { type: "number", step: "any" });
    this.high = h("input", { type: "number", step: "any" });
    this.steps = h("input", { type: "number", min: 2, max: 32, step: 1, value: 9 });
    this.from = h("select", {});
    this.to = h("select", {});
    this.ends = h("div", { class: "ll-row" }, labelled("From", this.from), labelled("To", this.to));
    this.ends.hidden = true;
    this.range = h("div", { class: "ll-row" }, labelled("From", this.low), labelled("To", this.high));
    this.source = h("select", {});
    setOptions(this.source, [
      ...(lab.absent.prior ? [] : [{ value: "prior", text: lab.info.discrete ? "the prior, uniform over codes" : "the prior N(0, I)" }]),
      { value: "data", text: "a Gaussian fitted to the images" },
    ]);
    this.seed = h("input", { type: "number", min: 0, step: 1, value: 0 });
    this.strip = new PictureRow(lab, "strip", "Strip");
    this.prior = new PictureRow(lab, "prior", "Samples");
    this.element = h(
      "div",
      {},
      h("h3", {}, "Strip"),
      h("div", { class: "ll-row" }, labelled("Along", this.along), this.range, this.ends, labelled("Pictures", this.steps), drawButton(() => this.drawStrip())),
      this.strip.element,
      h("h3", {}, "Samples"),
      h("div", { class: "ll-row" }, labelled("Of", this.source), labelled("Seed", this.seed), drawButton(() => this.drawPrior()), h("span", { class: "ll-hint" }, "Each press draws new ones.")),
      this.prior.element,
      h("p", { class: "ll-hint" }, "Click a picture to continue from its latent."),
    );
    lab.on("space", () => this.refill());
    lab.on("shelf", () => this.refill());
  }

  refill() {
    const between = this.lab.shelf.length > 1 ? [{ value: "between", text: "the path between two saved latents" }] : [];
    setOptions(this.along, [...(this.lab.space?.options() ?? []), ...between]);
    const saved = this.lab.shelf.map(({ key, name }) => ({ value: key, text: name }));
    const fresh = this.to.options.length < 2;
    setOptions(this.from, saved);
    setOptions(this.to, saved);
    if (fresh && saved.length > 1) this.to.value = saved[1].value;
    this.chosen();
  }

  chosen() {
    const between = this.along.value === "between";
    this.ends.hidden = !between;
    this.range.hidden = between;
    if (this.shown === this.along.value) return; // keep what was typed
    this.shown = this.along.value;
    const axis = this.lab.space?.axis(this.along.value);
    if (axis) [this.low.value, this.high.value] = [number(axis.low), number(axis.high)];
  }

  drawStrip() {
    const steps = Number(this.steps.value) || 9;
    if (this.along.value === "between") this.lab.act({ do: "strip", a: this.from.value, b: this.to.value, steps });
    else this.lab.act({ do: "strip", axis: this.along.value, low: Number(this.low.value), high: Number(this.high.value), steps });
  }

  async drawPrior() {
    const seed = Math.max(0, Math.floor(Number(this.seed.value) || 0));
    await this.lab.act({ do: "prior", source: this.source.value, seed, n: 12 });
    this.seed.value = seed + 1;
  }
}

function drawButton(onclick) {
  return button("Draw", onclick, { class: "ll-button ll-primary" });
}
