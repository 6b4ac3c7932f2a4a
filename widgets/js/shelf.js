import { button, h } from "./dom.js";
import { bytesOf } from "./pixels.js";

// Saved latents as thumbnails. Enter makes one the current latent, F2 renames it, Delete removes it.
export class ShelfView {
  constructor(lab) {
    this.lab = lab;
    this.renaming = false;
    this.list = h("ul", { class: "ll-shelf", "aria-label": "Saved latents" });
    this.empty = h("p", { class: "ll-hint" }, "The shelf is empty. “Keep” puts the current latent here.");
    this.element = h("section", { "aria-label": "Shelf" }, h("h3", {}, "Shelf"), this.empty, this.list);
    lab.on("shelf", () => this.fill());
    this.fill();
  }

  fill() {
    const active = this.list.getRootNode().activeElement;
    const row = this.list.contains(active) ? active.closest("li") : null;
    if (row && this.renaming) return; // a new thumbnail must not end the typing of a name
    this.renaming = false;
    const [at, control] = row ? [[...this.list.children].indexOf(row), [...row.querySelectorAll("button")].indexOf(active)] : [-1, 0];
    this.list.replaceChildren(...this.lab.shelf.map((item) => this.entry(item)));
    this.empty.hidden = this.lab.shelf.length > 0;
    if (!row) return;
    // Focus the same control of the same latent, or of its neighbour if that was removed.
    const rows = [...this.list.children];
    const next = rows.find((element) => element.dataset.key === row.dataset.key) ?? rows[Math.min(at, rows.length - 1)];
    next?.querySelectorAll("button")[Math.max(0, control)]?.focus();
  }

  entry({ key, name, norm, png }) {
    const take = h(
      "button",
      {
        type: "button",
        class: "ll-thumb",
        title: `Use ${name} (norm ${norm}). F2 renames it, Delete removes it`,
        "aria-label": `Use ${name}`,
        "data-key": key,
        draggable: true,
        onclick: () => this.lab.act({ do: "take", key }),
        onkeydown: (event) => {
          if (event.key === "Delete") this.remove(key);
          if (event.key === "F2") this.rename(key, name, item);
        },
        ondragstart: (event) => event.dataTransfer.setData("text/latent-lab", key),
      },
      this.picture(png),
    );
    const item = h(
      "li",
      { "data-key": key },
      take,
      h("span", { class: "ll-name" }, name),
      h("span", { class: "ll-row" }, button("Rename", () => this.rename(key, name, item), { "aria-label": `Rename ${name}` }), button("Remove", () => this.remove(key), { "aria-label": `Remove ${name}` })),
    );
    return item;
  }

  picture(png) {
    if (!png?.byteLength) return h("span", { class: "ll-waiting" }, "…");
    const url = URL.createObjectURL(new Blob([bytesOf(png)], { type: "image/png" }));
    return h("img", { src: url, alt: "", draggable: false, onload: () => URL.revokeObjectURL(url) });
  }

  remove(key) {
    this.lab.act({ do: "remove", key });
  }

  rename(key, name, item) {
    const done = (save) => {
      this.renaming = false;
      if (save && input.value !== name) this.lab.act({ do: "rename", key, name: input.value });
      else this.fill();
    };
    this.renaming = true;
    const input = h("input", {
      type: "text",
      value: name,
      "aria-label": `New name for ${name}`,
      onkeydown: (event) => {
        if (event.key === "Enter") done(true);
        if (event.key === "Escape") done(false);
      },
    });
    item.querySelector(".ll-name").replaceChildren(input);
    input.focus();
    input.select();
  }
}
