import { button, h, labelled, setOptions, uniqueId } from "./dom.js";
import { Scrubber } from "./scrubber.js";

const MODES = [
  { value: "between", text: "Between A and B" },
  { value: "analogy", text: "A − B + C" },
  { value: "sum", text: "Weighted sum" },
  { value: "attribute", text: "Attribute" },
];

// Arithmetic between saved latents; the result is the current latent, live.
export class Arithmetic {
  constructor(lab) {
    this.lab = lab;
    this.mode = "between";
    this.chosenSlots = new Set(); // the selects of A, B and C in which somebody has chosen
    this.pairs = new Map(); // a panel's row -> the letters of the selects that it shows
    this.filled = null; // the shelf as the panels have it
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
    this.values = new Map(); // of the weighted sum and the groups, by key
    this.panels = {
      between: h("div", {}, this.pair(["a", "b"]), labelled("Path", this.method), this.t.element),
      analogy: h("div", {}, h("p", { class: "ll-hint" }, "What is to C as A is to B."), this.pair(["a", "b", "c"]), button("Calculate A − B + C", () => this.analogy(), { class: "ll-button ll-primary" })),
      sum: h("div", {}, this.weights),
      attribute: h("div", {}, labelled("Groups from", this.label), this.groups, this.strength.element),
    };
    this.empty = h(
      "p",
      { class: "ll-hint" },
      "The shelf needs at least two latents: keep the current one with “Keep”, or ",
      button("put three images there", () => this.fillShelf()),
    );
    this.body = h("div", {});
    this.element = h("div", {}, this.modes, this.empty, this.body);
    this.choose(this.mode);
    this.refill();
    lab.on("shelf", () => this.refill());
    lab.on("gesture", (gesture) => {
      // Another change has come in between: the direction is added to what is there now, from 0 on.
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

  // The selects are shared: each panel takes those it needs when it is shown.
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
      // Until somebody chooses, A, B and C are different ones.
      if (!this.chosenSlots.has(select) && options.length) select.value = options[Math.min(i, options.length - 1)].value;
    });
    this.empty.hidden = options.length >= 2;
    this.body.hidden = options.length < 2;
    // A thumbnail that is ready is no reason to take a slider from under somebody's hand.
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
    const scrubber = new Scrubber(this.lab.channel, name, { low: -2, high: 2, step: 0.05, start: value, oninput });
    scrubber.input.addEventListener("change", () => scrubber.release());
    return scrubber.element;
  }

  // --- attribute ---

  fillLabels() {
    const options = [{ value: "", text: "the shelf" }];
    for (const { name, names } of this.lab.info.labels) {
      if (names) options.push(...names.map((value) => ({ value: JSON.stringify([name, value]), text: `images: ${name} is ${value}` })));
      else options.push({ value: JSON.stringify([name, null]), text: `images: large ${name}` });
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
    setOptions(select, [{ value: "", text: "in no group" }, { value: "with", text: "has it" }, { value: "without", text: "does not have it" }]);
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
