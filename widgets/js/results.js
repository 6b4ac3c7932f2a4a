import { h } from "./dom.js";
import { Later } from "./later.js";
import { paint } from "./pixels.js";

const RESULTS_PAUSE = 120; // ms without a change until results are asked for

// Pictures of what operations would give, without changing the current latent; one is chosen by a click.
export class Results {
  constructor(lab, choose) {
    this.lab = lab;
    this.question = null; // { operations, gesture } to ask for
    this.later = new Later(RESULTS_PAUSE, () => lab.channel.ask({ do: "results", ...this.question }).catch(() => {}));
    this.choose = choose; // called with the number of a picture
    this.element = h("div", { class: "ll-results", role: "group", "aria-label": "Results" });
    lab.on("sheet:results", (sheet) => this.receive(sheet));
  }

  // Asks for the results of operations, each with its name, one of which may be `marked`; `gesture` is the drag that the
  // last change was part of.
  show({ operations, names, marked = -1, gesture }) {
    this.later.cancel();
    if (this.element.childElementCount !== names.length) this.element.replaceChildren(...names.map((_, i) => this.place(i)));
    [...this.element.children].forEach((element, i) => {
      element.setAttribute("aria-label", names[i]);
      element.setAttribute("title", names[i]);
      element.classList.toggle("ll-selected", i === marked);
    });
    this.question = { operations, gesture };
    if (operations.length) this.later.soon();
  }

  place(i) {
    const [, height, width] = this.lab.info.image;
    return h("button", { type: "button", class: "ll-thumb", onclick: () => this.choose(i) }, h("canvas", { width, height, "aria-hidden": "true" }));
  }

  receive({ first, pictures, total }) {
    const canvases = this.element.querySelectorAll("canvas");
    if (canvases.length !== total) return; // of an earlier question
    pictures.forEach((picture, i) => paint(canvases[first + i], picture));
  }
}
