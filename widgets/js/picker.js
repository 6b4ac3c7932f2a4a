import { h } from "./dom.js";

// A choice among the latents of the shelf and of the images, shown as pictures over the page.
export class Picker {
  constructor(lab) {
    this.lab = lab;
    this.element = h("div", {
      class: "ll-picker",
      role: "dialog",
      hidden: true,
      onkeydown: (event) => { if (event.key === "Escape") this.close(); },
      onfocusout: (event) => { if (event.relatedTarget && !this.element.contains(event.relatedTarget)) this.element.hidden = true; },
    });
    this.opener = null;
  }

  open(label, opener, chosen, onpick) {
    this.opener = opener;
    const { saved, images } = this.lab.operands;
    const entry = ({ key, name, title, picture }) => {
      const pick = () => {
        this.close();
        onpick(key);
      };
      return h("button", { type: "button", class: "ll-thumb", title: title ?? name, "aria-label": title ?? name, "aria-pressed": String(key === chosen), "data-key": key, onclick: pick }, picture());
    };
    const part = (title, operands) => (operands.length ? [h("h3", {}, title), h("div", { class: "ll-thumbs" }, ...operands.map(entry))] : []);
    this.element.setAttribute("aria-label", label);
    this.element.replaceChildren(...part("Shelf", saved), ...part("Images", images));
    this.element.hidden = false;
    const first = this.element.querySelector('[aria-pressed="true"]') ?? this.element.querySelector("button");
    /** @type {HTMLElement | null} */ (first)?.focus();
  }

  close() {
    this.element.hidden = true;
    this.opener?.focus();
  }
}
