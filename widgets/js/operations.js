import { h, labelled, segments, setOptions } from "./dom.js";
import { Scrubber } from "./scrubber.js";

const BETWEEN = 7; // pictures between A and B
const AMOUNTS = [-0.5, 0, 0.5, 1, 1.5, 2];
const STRENGTHS = [-2, -1, 0, 1, 2];

// Each operation of the arithmetic page has `preview()`, what is drawn: { operations, names }; `current()`, the one that
// becomes the latent; and `pick(i)`, a click on picture i. Operations are those of Edits.combine in edits.py.

export class Between {
  constructor({ lab, slots, results, apply, refresh }) {
    this.key = "between";
    this.title = "A to B";
    this.slots = slots;
    this.results = results;
    const pressed = () => apply(this.t.begin());
    this.method = segments("Path", [{ value: "slerp", text: "slerp" }, { value: "lerp", text: "lerp" }], "slerp", () => {
      refresh();
      pressed();
    });
    this.t = new Scrubber(lab.channel, "Position from A to B", { low: 0, high: 1, step: 0.005, oninput: pressed, onchange: () => this.t.release() });
    this.pick = (i) => {
      this.t.value = i / (BETWEEN - 1);
      pressed();
      this.t.release();
    };
    this.element = h("div", {});
  }

  show() {
    const [a, b] = this.slots;
    this.element.replaceChildren(
      h("div", { class: "ll-equation" }, a.button, h("span", { class: "ll-sign", "aria-hidden": "true" }, "→"), b.button),
      this.results.element,
      this.t.element,
      h("div", { class: "ll-row" }, h("span", { class: "ll-muted" }, "Path"), this.method.element),
    );
  }

  get dragging() {
    return this.t.gesture !== null;
  }

  at(t) {
    const [a, b] = this.slots;
    return { op: "between", a: a.key, b: b.key, t, method: this.method.value };
  }

  current() {
    return this.at(this.t.value);
  }

  preview() {
    const shares = Array.from({ length: BETWEEN }, (_, i) => i / (BETWEEN - 1));
    return { operations: shares.map((t) => this.at(t)), names: shares.map((t) => `${Math.round(100 * t)} % of the way from A to B`) };
  }

  refill() {}

  reset() {}
}

export class Analogy {
  constructor({ slots, results, apply }) {
    this.key = "analogy";
    this.title = "A − B + C";
    this.slots = slots;
    this.results = results;
    this.dragging = false;
    this.amount = 1; // of A − B that is added to C
    this.pick = (i) => {
      this.amount = AMOUNTS[i];
      apply();
      this.amount = 1;
    };
    this.element = h("div", {});
  }

  show() {
    const [a, b, c] = this.slots;
    const sign = (text) => h("span", { class: "ll-sign", "aria-hidden": "true" }, text);
    this.element.replaceChildren(
      h("div", { class: "ll-equation" }, a.button, sign("−"), b.button, sign("+"), c.button),
      h("p", { class: "ll-hint" }, "What is to C as A is to B, framed, and less and more of the difference. Click a picture to continue from it."),
      this.results.element,
    );
  }

  at(amount) {
    const [a, b, c] = this.slots.map(({ key }) => key);
    if (amount === 1) return { op: "analogy", a, b, c };
    const weights = {};
    for (const [key, weight] of [[a, amount], [b, -amount], [c, 1]]) weights[key] = (weights[key] ?? 0) + weight;
    return { op: "sum", weights };
  }

  current() {
    return this.at(this.amount);
  }

  preview() {
    const names = AMOUNTS.map((amount) => (amount === 1 ? "Use A − B + C" : `Use C + ${amount} × (A − B)`));
    return { operations: AMOUNTS.map((amount) => this.at(amount)), names, marked: AMOUNTS.indexOf(1) };
  }

  refill() {}

  reset() {}
}

export class WeightedSum {
  constructor({ lab, slots, results, apply, refresh }) {
    this.key = "sum";
    this.title = "Weighted sum";
    this.lab = lab;
    this.slots = slots;
    this.results = results;
    this.apply = apply;
    this.refresh = refresh;
    this.dragging = false;
    this.values = new Map(); // weights by key
    this.rows = new Map(); // key -> element, so that a new picture does not replace a slider that is dragged
    this.list = h("div", { class: "ll-weights" });
    this.pick = () => apply();
    this.element = h("div", {});
  }

  show() {
    this.element.replaceChildren(h("div", { class: "ll-split" }, this.list, this.results.element));
    this.refill();
  }

  // The latents on the shelf, or A, B and C where it has fewer than two.
  get operands() {
    const { operands } = this.lab;
    return operands.saved.length > 1 ? operands.saved : this.slots.flatMap(({ key }) => operands.find(key) ?? []);
  }

  refill() {
    const { operands } = this;
    operands.forEach(({ key }, i) => { if (!this.values.has(key)) this.values.set(key, i < 2 ? 0.5 : 0); });
    const rows = operands.map((operand) => {
      const known = this.rows.get(operand.key);
      const element = known?.name === operand.name ? known.element : this.row(operand);
      element.querySelector(".ll-face").replaceChildren(operand.picture());
      this.rows.set(operand.key, { name: operand.name, element });
      return element;
    });
    if (rows.some((row, i) => row !== this.list.children[i]) || rows.length !== this.list.childElementCount) this.list.replaceChildren(...rows);
  }

  row({ key, name }) {
    const oninput = () => {
      this.values.set(key, scrubber.value);
      this.apply(scrubber.gesture);
    };
    const scrubber = new Scrubber(this.lab.channel, name, { low: -2, high: 2, step: 0.05, start: this.values.get(key), oninput, onchange: () => scrubber.release() });
    return h("div", { class: "ll-weight" }, h("span", { class: "ll-face" }), scrubber.element);
  }

  reset() {}

  current() {
    const weights = Object.fromEntries(this.operands.map(({ key }) => [key, this.values.get(key)]).filter(([, weight]) => weight));
    return Object.keys(weights).length ? { op: "sum", weights } : null;
  }

  preview() {
    const operation = this.current();
    return { operations: operation ? [operation] : [], names: ["Use the weighted sum"] };
  }
}

export class Attribute {
  constructor({ lab, slots, results, apply, refresh }) {
    this.key = "attribute";
    this.title = "Attribute";
    this.lab = lab;
    this.slots = slots;
    this.results = results;
    this.apply = apply;
    this.refresh = refresh;
    this.groups = new Map(); // group by key: "with", "without" or ""
    this.strength = new Scrubber(lab.channel, "Strength", { low: -2, high: 2, step: 0.02, oninput: () => apply(this.strength.gesture) });
    this.label = h("select", { onchange: () => this.changed() });
    this.list = h("div", { class: "ll-weights" });
    this.pick = (i) => {
      this.strength.value = STRENGTHS[i];
      apply(this.strength.begin());
    };
    this.element = h(
      "div",
      {},
      h("div", { class: "ll-form" }, labelled("Attribute", this.label)),
      h("p", { class: "ll-hint" }, "The difference between two groups, added to the current latent."),
    );
    this.tail = h("div", {}, this.strength.element, this.list);
    this.fillLabels();
  }

  show() {
    this.element.append(this.results.element, this.tail);
    this.refill();
  }

  get dragging() {
    return this.strength.gesture !== null;
  }

  fillLabels() {
    const options = [];
    for (const { name, names } of this.lab.info.labels) {
      if (names) options.push(...names.map((value) => ({ value: JSON.stringify([name, value]), text: `${name} is ${value}` })));
      else options.push({ value: JSON.stringify([name, null]), text: `large ${name}` });
    }
    setOptions(this.label, [...options, { value: "", text: "groups of latents" }]);
    this.label.selectedIndex = 0;
  }

  changed() {
    this.strength.reset();
    this.refill();
    this.refresh();
  }

  reset() {
    this.strength.reset();
  }

  get operands() {
    const { operands } = this.lab;
    return operands.saved.length > 1 ? operands.saved : this.slots.flatMap(({ key }) => operands.find(key) ?? []);
  }

  refill() {
    const { operands } = this;
    operands.forEach(({ key }, i) => { if (!this.groups.has(key)) this.groups.set(key, ["with", "without"][i] ?? ""); });
    this.list.replaceChildren(...(this.label.value ? [] : operands.map((operand) => this.member(operand))));
  }

  member({ key, name, picture }) {
    const select = h("select", { onchange: () => { this.groups.set(key, select.value); this.changed(); } });
    setOptions(select, [{ value: "", text: "in neither group" }, { value: "with", text: "has it" }, { value: "without", text: "does not have it" }]);
    select.value = this.groups.get(key);
    return h("div", { class: "ll-weight" }, h("span", { class: "ll-face" }, picture()), labelled(name, select));
  }

  at(strength) {
    const operation = { op: "attribute", strength };
    if (this.label.value) {
      const [label, value] = JSON.parse(this.label.value);
      return { ...operation, label, value };
    }
    const members = (group) => this.operands.map(({ key }) => key).filter((key) => this.groups.get(key) === group);
    const groups = { with: members("with"), without: members("without") };
    return groups.with.length && groups.without.length ? { ...operation, ...groups } : null;
  }

  current() {
    return this.at(this.strength.value);
  }

  preview() {
    const operations = STRENGTHS.map((strength) => this.at(strength));
    return { operations: operations.includes(null) ? [] : operations, names: STRENGTHS.map((strength) => `Strength ${strength}`) };
  }
}
