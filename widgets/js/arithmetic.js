import { h, segments } from "./dom.js";
import { Later } from "./later.js";
import { Analogy, Attribute, Between, WeightedSum } from "./operations.js";
import { Picker } from "./picker.js";
import { Results } from "./results.js";
import { Slot } from "./slot.js";

const LATENT_PAUSE = 300; // ms without a change of the latent until results that depend on it are drawn again

// Arithmetic with latents, of the shelf and of the images. What it would give is drawn; a change makes it current at once.
export class Arithmetic {
  constructor(lab) {
    this.lab = lab;
    this.picker = new Picker(lab);
    this.slots = ["A", "B", "C"].map((letter) => new Slot(lab, this.picker, letter, () => this.apply()));
    this.results = new Results(lab, (i) => this.operation.pick(i));
    this.gesture = null; // of the last change by this page
    this.again = new Later(LATENT_PAUSE, () => this.refresh());
    const parts = { lab, slots: this.slots, results: this.results, apply: (gesture) => this.apply(gesture), refresh: () => this.refresh() };
    const operations = [new Between(parts), new Analogy(parts), new WeightedSum(parts), new Attribute(parts)];
    this.operations = new Map(operations.map((operation) => [operation.key, operation]));
    this.modes = segments("Operation", operations.map(({ key, title }) => ({ value: key, text: title })), "between", () => this.choose());
    this.body = h("div", { class: "ll-operation" });
    this.element = h("div", { class: "ll-arithmetic" }, this.modes.element, this.body, this.picker.element);
    lab.on("space", () => this.refill());
    lab.on("shelf", () => this.refill());
    lab.on("gallery", () => this.refill());
    lab.on("tab:arithmetic", () => this.choose());
    lab.on("gesture", (gesture) => this.changed(gesture));
  }

  get operation() {
    return this.operations.get(this.modes.value);
  }

  // Until the user chooses, A, B and C are suggested; a latent that is gone is replaced.
  refill() {
    const suggested = this.lab.operands.suggest(3);
    this.slots.forEach((slot, i) => slot.show(slot.touched && this.lab.operands.find(slot.key) ? slot.key : suggested[i]));
    for (const operation of this.operations.values()) operation.refill();
    this.refresh();
  }

  choose() {
    this.gesture = null;
    this.body.replaceChildren(this.operation.element);
    this.operation.show();
    this.refresh();
  }

  // Draws what the operation would give.
  refresh() {
    if (this.lab.tab !== "arithmetic" || !this.lab.space || this.slots.some(({ key }) => !key)) return;
    this.results.show({ ...this.operation.preview(), gesture: this.gesture });
  }

  // Makes the result the current latent.
  apply(gesture = this.lab.channel.newGesture()) {
    this.gesture = gesture;
    const operation = this.operation.current();
    if (operation) this.lab.channel.combine(operation, gesture);
    if (!this.operation.dragging) this.refresh();
  }

  // After another change, an attribute is added to the latent as it is now.
  changed(gesture) {
    if (gesture === this.gesture || !this.lab.channel.idle) return;
    this.gesture = null;
    for (const operation of this.operations.values()) operation.reset();
    if (this.modes.value === "attribute") this.again.soon();
  }
}
