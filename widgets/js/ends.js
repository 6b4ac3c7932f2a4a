import { h } from "./dom.js";
import { Later } from "./later.js";
import { paint } from "./pixels.js";

const ENDS_PAUSE = 300; // ms without a change until pictures are asked for

// What the latent would decode to at both ends of sliders: those that are seen, drawn again when the latent has changed.
export class Ends {
  constructor(lab, seen) {
    this.lab = lab;
    this.seen = seen; // returns the keys of the axes whose sliders are seen
    this.pictures = new Map(); // key -> [canvas, canvas]
    this.drawn = new Set(); // keys whose pictures are of the present latent
    this.question = new Later(ENDS_PAUSE, () => this.ask());
    lab.on("sheet:ends", (sheet) => this.receive(sheet));
    lab.on("gesture", () => this.stale());
    lab.on("tab:sliders", () => this.askSoon());
  }

  // The two pictures of an axis, as elements.
  of(key) {
    const [, height, width] = this.lab.info.image;
    const pair = ["low", "high"].map((end) => h("canvas", { width, height, class: "ll-end", role: "img", "aria-label": `${key} at its ${end} end` }));
    this.pictures.set(key, pair);
    this.drawn.delete(key);
    return pair;
  }

  stale() {
    this.drawn.clear();
    this.askSoon();
  }

  askSoon() {
    if (this.lab.tab === "sliders") this.question.soon();
  }

  ask() {
    const axes = this.seen().filter((key) => !this.drawn.has(key));
    if (!axes.length || this.lab.tab !== "sliders") return;
    if (!this.lab.channel.idle) {
      this.askSoon();
      return;
    }
    for (const key of axes) this.drawn.add(key);
    this.lab.channel.ask({ do: "ends", axes }).catch(() => { for (const key of axes) this.drawn.delete(key); });
  }

  receive({ first, pictures, axes }) {
    pictures.forEach((picture, i) => {
      const canvas = this.pictures.get(axes[Math.floor((first + i) / 2)])?.[(first + i) % 2];
      if (canvas) paint(canvas, picture);
    });
  }
}
