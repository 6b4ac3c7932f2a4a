import { h } from "./dom.js";

export const DRAGGED = "text/latent-lab"; // the key of a latent that is dragged

// A place for one latent: its picture, which opens a choice of others and takes what is dropped on it.
export class Slot {
  constructor(lab, picker, letter, onchange) {
    this.lab = lab;
    this.letter = letter;
    this.onchange = onchange;
    this.key = null;
    this.touched = false; // whether the user has chosen
    this.name = h("span", { class: "ll-name" });
    this.face = h("span", { class: "ll-face" });
    this.button = h(
      "button",
      {
        type: "button",
        class: "ll-slot",
        "data-slot": letter.toLowerCase(),
        "aria-haspopup": "dialog",
        onclick: () => picker.open(`Choose ${letter}`, this.button, this.key, (key) => this.choose(key)),
        ondragover: (event) => event.preventDefault(),
        ondrop: (event) => {
          const key = event.dataTransfer.getData(DRAGGED);
          if (!lab.operands.find(key)) return;
          event.preventDefault();
          event.stopPropagation();
          this.choose(key);
        },
      },
      h("b", {}, letter),
      this.face,
      this.name,
    );
  }

  choose(key) {
    this.touched = true;
    this.show(key);
    this.onchange();
  }

  show(key) {
    const operand = this.lab.operands.find(key);
    this.key = operand ? key : null;
    this.face.replaceChildren(operand ? operand.picture() : h("span", { class: "ll-waiting" }, "…"));
    this.name.textContent = operand?.name ?? "";
    this.button.title = `${this.letter}: ${operand?.title ?? operand?.name ?? "none"}. Click to choose another, or drop one from the shelf`;
    this.button.setAttribute("aria-label", `${this.letter}: ${operand?.name ?? "none"}. Choose another`);
  }
}
