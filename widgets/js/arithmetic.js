import { button, h, labelled, setOptions, uniqueId } from "./dom.js";
import { Scrubber } from "./scrubber.js";

const MODES = [
  { value: "between", text: "Between A and B" },
  { value: "analogy", text: "A − B + C" },
  { value: "sum", text: "Weighted sum" },
  { value: "attribute", text: "Attribute" },
];

// Arithmetic with saved latents. The result becomes the current latent at once.
export class Arithmetic {
  constructor(lab) {
    this.lab = lab;
    this.mode = "between";
    this.chosenSlots = new Set(); // those of the selects A, B and C that the user has changed
    this.pairs = new Map(); // row of a panel -> letters of the selects in it
    this.filled = null; // names on the shelf when the panels were last filled
    const name = uniqueId("mode");
    this.modes = h(
      "div",
      { class: "ll-row", role: "radiogroup", "aria-label": "Operation" },
      ...MODES.map(({ value, text }) => {
        const radio = h("input", { type: "radio", name, value, checked: value === this.mode, onchange: () => this.choose(value) });
        return h("label", { class: "ll-check" }, radio, text);
      }),
    );
    this.slots = Object.fromEntries(["a", "b", "c"].map((slot) => [slot, this.slot(slot)]));
    this.method = h("select", { onchange: () => this.between() });
    setOptions(this.method, [{ value: "slerp", text: "slerp" }, { value: "lerp", text: "lerp" }]);
    this.t = new Scrubber(lab.channel, "Position from A to B", { low: 0, high: 1, step: 0.005, oninput: () => this.between() });
    this.strength = new Scrubber(lab.channel, "Strength", { low: -2, high: 2, step: 0.02, oninput: () => this.attribute() });
    this.label = h("select", { onchange: () => this.fillSources() });
    this.groups = h("div", { class: "ll-weights" });
    this.weights = h("div", { class: "ll-weights" });
    this.values = new Map(); // weights and groups of the saved latents: `w` or `g` and a key -> value
    this.panels = {
      between: h("div", {}, this.pair(["a", "b"]), labelled("Path", this.method), this.t.element),
      analogy: h("div", {}, h("p", { class: "ll-hint" }, "What is to C as A is to B."), this.pair(["a", "b", "c"]), button("Calculate A − B + C", () => this.analogy(), { class: "ll-button ll-primary" })),
      sum: h("div", {}, this.weights),
      attribute: h("div", {}, labelled("Groups from", this.label), this.groups, this.strength.element),
    };
    this.empty = h(
      "p",
      { class: "ll-hint" },
      "Arithmetic needs at least two latents on the shelf: press “Keep”, or ",
      button("put three images there", () => this.fillShelf()),
    );
    this.body = h("div", {});
    this.element = h("div", {}, this.modes, this.empty, this.body);
    this.choose(this.mode);
    this.refill();
    lab.on("shelf", () => this.refill());
    lab.on("gesture", (gesture) => {
      // After another change, the strength counts from the latent as it is now.
      if (gesture !== this.strength.gesture && lab.channel.idle) this.strength.reset();
    });
  }

  slot(letter) {
    const select = h("select", { "data-slot": letter, onchange: () => this.chosen(select) });
    select.addEventListener("dragover", (event) => event.preventDefault());
    select.addEventListener("drop", (event) => {
      const key = event.dataTransfer.getData("text/latent-lab");
      if (!this.lab.shelf.some((item) => item.key === key)) return;
      event.preventDefault();
      event.stopPropagation();
      select.value = key;
      this.chosen(select);
    });
    return select;
  }

  chosen(select) {
    this.chosenSlots.add(select);
    this.changed();
  }

  // A row for selects. Panels share these: each takes the ones it needs when it is shown.
  pair(letters) {
    const row = h("div", { class: "ll-row" });
    this.pairs.set(row, letters);
    return row;
  }

  choose(mode) {
    this.mode = mode;
    const panel = this.panels[mode];
    for (const [row, letters] of this.pairs) {
      if (panel.contains(row)) row.replaceChildren(...letters.map((letter) => labelled(letter.toUpperCase(), this.slots[letter])));
    }
    this.body.replaceChildren(panel);
  }

  refill() {
    const options = this.lab.shelf.map(({ key, name }) => ({ value: key, text: name }));
    Object.values(this.slots).forEach((select, i) => {
      setOptions(select, options);
      // Until the user chooses, A, B and C differ.
      if (!this.chosenSlots.has(select) && options.length) select.value = options[Math.min(i, options.length - 1)].value;
    });
    this.empty.hidden = options.length >= 2;
    this.body.hidden = options.length < 2;
    // A new thumbnail must not replace a slider that is being dragged.
    const names = JSON.stringify(options);
    if (names === this.filled) return;
    this.filled = names;
    this.weights.replaceChildren(...this.lab.shelf.map((item) => this.weight(item)));
    this.fillLabels();
  }

  changed() {
    if (this.mode === "analogy") this.analogy();
    else this.between();
  }

  between() {
    const [a, b] = [this.slots.a.value, this.slots.b.value];
    this.lab.channel.combine({ op: "between", a, b, t: this.t.value, method: this.method.value }, this.t.begin());
  }

  analogy() {
    const [a, b, c] = ["a", "b", "c"].map((letter) => this.slots[letter].value);
    this.lab.channel.combine({ op: "analogy", a, b, c }, this.lab.channel.newGesture());
  }

  // --- weighted sum ---

  weight({ key, name }) {
    const value = this.values.get(`w${key}`) ?? 0;
    const oninput = () => {
      this.values.set(`w${key}`, scrubber.value);
      const weights = Object.fromEntries(this.lab.shelf.map((item) => [item.key, this.values.get(`w${item.key}`) ?? 0]));
      if (Object.values(weights).some(Boolean)) this.lab.channel.combine({ op: "sum", weights }, scrubber.gesture);
    };
    const scrubber = new Scrubber(this.lab.channel, name, { low: -2, high: 2, step: 0.05, start: value, oninput, onchange: () => scrubber.release() });
    return scrubber.element;
  }

  // --- attribute ---

  fillLabels() {
    const options = [{ value: "", text: "the shelf" }];
    for (const { name, names } of this.lab.info.labels) {
      if (names) options.push(...names.map((value) => ({ value: JSON.stringify([name, value]), text: `images with ${name} ${value}` })));
      else options.push({ value: JSON.stringify([name, null]), text: `images with a large ${name}` });
    }
    setOptions(this.label, options);
    this.fillSources();
  }

  fillSources() {
    this.strength.reset();
    this.groups.replaceChildren(...(this.label.value ? [] : this.lab.shelf.map((item) => this.member(item))));
  }

  member({ key, name }) {
    const select = h("select", { onchange: () => { this.values.set(`g${key}`, select.value); this.strength.reset(); } });
    setOptions(select, [{ value: "", text: "in neither group" }, { value: "with", text: "has it" }, { value: "without", text: "does not have it" }]);
    select.value = this.values.get(`g${key}`) ?? "";
    return labelled(name, select);
  }

  attribute() {
    const operation = { op: "attribute", strength: this.strength.value };
    if (this.label.value) [operation.label, operation.value] = JSON.parse(this.label.value);
    else {
      const members = (group) => this.lab.shelf.map(({ key }) => key).filter((key) => this.values.get(`g${key}`) === group);
      Object.assign(operation, { with: members("with"), without: members("without") });
    }
    this.lab.channel.combine(operation, this.strength.gesture);
  }

  async fillShelf() {
    const count = Math.min(3, this.lab.info.images);
    for (let i = 0; i < count; i += 1) {
      if (!(await this.lab.act({ do: "pick", index: i }))) return;
      await this.lab.act({ do: "keep" });
    }
  }
}
