import { h } from "./dom.js";

// What a page shows until the images are encoded: how far that is, or why it failed.
export class Waiting {
  constructor(lab) {
    this.lab = lab;
    this.bar = h("progress", { "aria-label": "Images encoded" });
    this.words = h("p", {});
    this.element = h("div", { class: "ll-wait", role: "status" }, this.words, this.bar);
    this.update();
    lab.on("progress", () => this.update());
  }

  update() {
    const [seen, total] = this.lab.model.get("_progress");
    const error = this.lab.model.get("_space").error;
    this.bar.hidden = Boolean(error);
    if (error) this.words.textContent = `There is no map of the images: ${error}`;
    else this.words.textContent = total ? `Encoding images: ${seen} of ${total}` : "Opening the model";
    if (total) Object.assign(this.bar, { value: seen, max: total });
  }
}
