import { h, labelled } from "./dom.js";

// Whether an image has other bands than gray, RGB and RGBA, so that some are chosen to be seen.
export function hasBands(info) {
  return info.image[0] === 2 || info.image[0] > 4;
}

// The bands that are shown as red, green and blue. The same band three times is gray.
export class Bands {
  constructor(lab) {
    this.lab = lab;
    const options = () => Array.from({ length: lab.info.image[0] }, (_, band) => h("option", { value: band }, `band ${band}`));
    this.selects = ["Red", "Green", "Blue"].map((colour) =>
      h("select", { "aria-label": `${colour}: band that is shown`, "data-band": colour.toLowerCase(), onchange: () => this.choose() }, ...options()),
    );
    const [red, green, blue] = this.selects;
    this.element = h("div", { class: "ll-row", role: "group", "aria-label": "Bands" }, labelled("Red", red), labelled("Green", green), labelled("Blue", blue));
    lab.follow("_bands", () => this.fill());
    this.fill();
  }

  fill() {
    const bands = this.lab.model.get("_bands");
    for (const [i, select] of this.selects.entries()) select.value = String(bands.length === 3 ? bands[i] : (bands[0] ?? 0));
  }

  async choose() {
    const answer = await this.lab.act({ do: "bands", bands: this.selects.map((select) => Number(select.value)) });
    if (!answer) this.fill(); // it was refused, or there is no kernel
  }
}
