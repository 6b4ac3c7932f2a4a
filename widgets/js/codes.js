import { h, labelled, setOptions } from "./dom.js";
import { paint } from "./pixels.js";
import { Positions } from "./positions.js";

const READABLE = 22; // CSS pixels: smaller cells do not show their index

// The codes of a discrete latent: choose a position, then a new code for it from pictures of the codebook.
export class Codes {
  constructor(lab) {
    this.lab = lab;
    this.stage = h("select", { onchange: () => this.choose() });
    setOptions(this.stage, Array.from({ length: lab.info.stages }, (_, i) => ({ value: String(i), text: String(i + 1) })));
    this.behind = h("select", { onchange: () => this.positions.draw() });
    setOptions(this.behind, [{ value: "codes", text: "the codes" }, { value: "picture", text: "the picture" }]);
    this.order = h("select", { onchange: () => this.choose() });
    setOptions(this.order, [{ value: "near", text: "nearest first" }, { value: "number", text: "by index" }]);
    this.code = h("input", { type: "number", min: 0, max: lab.info.codes - 1, step: 1, onchange: () => this.typed() });
    this.chosen = lab.info.latent.slice(1).map((side) => Math.floor(side / 2));
    this.positions = new Positions(lab, {
      label: (y, x) => `Codes of the image. Row ${y + 1}, column ${x + 1}: code ${this.at(y, x)}. Enter selects the position.`,
      paint: (context, cw, ch) => this.paint(context, cw, ch),
      pressed: (y, x) => this.choose(y, x),
    });
    this.palette = h("div", { class: "ll-palette", role: "group", "aria-label": "Codebook" });
    this.words = h("p", { class: "ll-hint" });
    this.element = h(
      "div",
      { class: "ll-columns" },
      h("div", {}, this.positions.canvas, h("div", { class: "ll-form" }, labelled("Show", this.behind))),
      h(
        "div",
        {},
        this.words,
        h("div", { class: "ll-form" }, lab.info.stages > 1 ? labelled("Stage", this.stage) : null, labelled("Index", this.code), labelled("Order", this.order)),
        this.palette,
        h("p", { class: "ll-hint" }, "Click a position, then a code. With the keyboard: arrow keys and Enter, then Tab to the codebook."),
      ),
    );
    lab.on("sheet:palette", (sheet) => this.receive(sheet));
    lab.on("picture", () => this.tell());
    lab.on("tab:codes", () => { if (!this.palette.childElementCount) this.choose(); });
  }

  at(y, x) {
    const [, , columns] = this.lab.info.latent;
    return this.lab.indices?.[(y * columns + x) * this.lab.info.stages + Number(this.stage.value)] ?? 0;
  }

  choose(y = this.chosen[0], x = this.chosen[1]) {
    this.chosen = [y, x];
    this.positions.moveTo(y, x);
    this.tell();
    this.lab.channel.ask({ do: "palette", y, x, stage: Number(this.stage.value), order: this.order.value }).catch(() => {});
  }

  tell() {
    const [y, x] = this.chosen;
    const code = this.at(y, x);
    this.code.value = code;
    this.words.textContent = `Row ${y + 1}, column ${x + 1}: code ${code} of ${this.lab.info.codes}`;
    for (const entry of /** @type {Iterable<HTMLElement>} */ (this.palette.children)) entry.setAttribute("aria-pressed", String(Number(entry.dataset.code) === code));
  }

  typed() {
    if (this.code.value && this.code.checkValidity()) this.set(Number(this.code.value));
    else {
      this.tell();
      this.lab.complain(`A code is a whole number from 0 to ${this.lab.info.codes - 1}.`);
    }
  }

  set(code) {
    const [y, x] = this.chosen;
    this.lab.channel.edit([{ code: { y, x, stage: Number(this.stage.value), code } }], this.lab.channel.newGesture());
  }

  receive({ first, pictures, codes }) {
    if (first === 0) this.palette.replaceChildren();
    pictures.forEach((picture, i) => {
      const code = codes[first + i];
      const canvas = h("canvas", { "aria-hidden": "true" });
      paint(canvas, picture);
      this.palette.append(
        h("button", { type: "button", class: "ll-code", "data-code": code, title: `code ${code}`, "aria-label": `code ${code}`, onclick: () => this.set(code) }, canvas),
      );
    });
    this.tell();
  }

  paint(context, cw, ch) {
    const [, rows, columns] = this.lab.info.latent;
    if (this.behind.value === "picture" || !this.lab.indices) {
      context.drawImage(this.lab.stage.decoded.canvas, 0, 0, cw * columns, ch * rows);
      return;
    }
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `${Math.floor(Math.min(cw, ch) / 2.6)}px sans-serif`;
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        const code = this.at(y, x);
        // Steps of the golden ratio, so that neighbouring indices differ in hue.
        context.fillStyle = `hsl(${(code * 222.5) % 360} 45% ${26 + ((code * 7) % 5) * 5}%)`;
        context.fillRect(x * cw, y * ch, cw - 0.5, ch - 0.5);
        if (cw < READABLE) continue;
        context.fillStyle = "white";
        context.fillText(String(code), (x + 0.5) * cw, (y + 0.5) * ch);
      }
    }
  }
}
