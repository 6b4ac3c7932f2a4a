import { WIDE, h, labelled, setOptions } from "./dom.js";
import { Later } from "./later.js";
import { number } from "./numbers.js";
import { paint } from "./pixels.js";

const FIRST_AXES = 6; // axes that are shown at first
const STRIPS_PAUSE = 300; // ms without a change until the strips are drawn again

// Traversals along axes, and paths between two latents. Each picture is a button that makes its latent the current one.
export class Strips {
  constructor(lab) {
    this.lab = lab;
    this.shown = null; // what the range of `along` was filled for
    this.stale = true;
    this.again = new Later(STRIPS_PAUSE, () => { if (this.lab.tab === "strips") this.draw(); });
    const draw = () => this.draw();
    this.along = h("select", { onchange: () => this.chosen() });
    this.low = h("input", { type: "number", step: "any", onchange: draw });
    this.high = h("input", { type: "number", step: "any", onchange: draw });
    this.steps = h("input", { type: "number", min: 2, max: 32, step: 1, value: 7, onchange: draw });
    this.from = h("select", { onchange: draw });
    this.to = h("select", { onchange: draw });
    this.ends = [labelled("From", this.from), labelled("To", this.to)];
    this.range = [labelled("From", this.low), labelled("To", this.high)];
    this.grid = h("div", { class: "ll-strips", role: "group", "aria-label": "Strips" });
    this.element = h(
      "div",
      {},
      h("div", { class: "ll-form" }, labelled("Along", this.along, WIDE), ...this.range, ...this.ends, labelled("Pictures", this.steps)),
      this.grid,
      h("p", { class: "ll-hint" }, "Click a picture to continue from it."),
    );
    lab.on("space", () => this.refill());
    lab.on("shelf", () => this.refill());
    lab.on("gallery", () => this.refill());
    lab.on("tab:strips", () => { if (this.stale) this.draw(); });
    lab.on("gesture", () => this.changed());
    lab.on("sheet:strip", (sheet) => this.receive(sheet));
  }

  refill() {
    if (!this.lab.space) return;
    const groups = [...new Set(this.lab.space.axes.map(({ group }) => group))];
    const several = groups.map((group) => ({ value: `group ${group}`, text: `the first ${group}` }));
    setOptions(this.along, [...several, { value: "between", text: "the path between two latents" }, ...this.lab.space.options()]);
    const { saved, images } = this.lab.operands;
    const options = [...saved, ...images].map(({ key, name }) => ({ value: key, text: name }));
    const [a, b] = this.lab.operands.suggest(2);
    for (const [select, key] of [[this.from, a], [this.to, b]]) {
      const fresh = !select.options.length;
      setOptions(select, options);
      if (fresh && key) select.value = key;
    }
    this.fit();
  }

  // The controls that fit what is chosen.
  fit() {
    const axis = this.lab.space.axis(this.along.value);
    for (const element of this.ends) element.hidden = this.along.value !== "between";
    for (const element of this.range) element.hidden = !axis;
    if (this.shown === this.along.value) return; // keep what was typed
    this.shown = this.along.value;
    if (axis) [this.low.value, this.high.value] = [number(axis.low), number(axis.high)];
  }

  chosen() {
    this.fit();
    this.draw();
  }

  draw() {
    if (!this.lab.space) return;
    this.stale = false;
    const steps = Number(this.steps.value) || 7;
    const along = this.along.value;
    const group = along.startsWith("group ") ? along.slice(6) : null;
    const axes = this.lab.space.axes.filter((axis) => axis.group === group).slice(0, FIRST_AXES).map(({ key }) => key);
    if (group) this.ask({ axes, steps });
    else if (along === "between") this.ask({ a: this.from.value, b: this.to.value, steps });
    else this.ask({ axis: along, low: Number(this.low.value), high: Number(this.high.value), steps });
  }

  ask(message) {
    this.lab.channel.ask({ do: "strip", ...message }).catch(() => {});
  }

  // The latent has changed, not by a click on one of these pictures: they go through another one now.
  changed() {
    if (this.taking) return;
    this.stale = true;
    this.again.soon();
  }

  receive({ first, pictures, words, total, axes }) {
    const steps = axes ? total / axes.length : total;
    if (first === 0) {
      this.grid.replaceChildren();
      this.grid.style.setProperty("--steps", String(steps));
      this.grid.classList.toggle("ll-named", Boolean(axes));
    }
    pictures.forEach((picture, i) => {
      const index = first + i;
      if (axes && index % steps === 0) this.grid.append(this.name(axes[index / steps]));
      const canvas = h("canvas", { "aria-hidden": "true" });
      paint(canvas, picture);
      const title = words[index];
      this.grid.append(h("button", { type: "button", class: "ll-thumb", title, "aria-label": title, onclick: () => this.take(index) }, canvas));
    });
  }

  name(key) {
    const axis = this.lab.space.axis(key);
    return h("span", { class: "ll-strip-name" }, axis?.name ?? key, h("small", {}, axis?.detail ?? ""));
  }

  async take(index) {
    this.taking = true;
    await this.lab.act({ do: "adopt", sheet: "strip", index });
    this.taking = false;
  }
}
