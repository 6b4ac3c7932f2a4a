import { h } from "./dom.js";
import { pictureName } from "./gallery.js";
import { iconButton } from "./icons.js";
import { DRAGGED } from "./slot.js";

const AT_ONCE = 24; // pictures that are asked for

// Saved latents as thumbnails. Enter makes one the current latent, F2 renames it, Delete removes it.
export class ShelfView {
  constructor(lab) {
    this.lab = lab;
    this.renaming = false;
    this.fetching = false;
    this.list = h("ul", { class: "ll-shelf", "aria-label": "Saved latents" });
    this.empty = h("p", { class: "ll-empty" }, "“Keep” puts the current latent here, to calculate with it.");
    this.element = h("section", { class: "ll-shelf-place", "aria-label": "Shelf" }, h("h3", {}, "Shelf"), this.empty, this.list);
    lab.on("shelf", () => this.fill());
    this.fill();
  }

  fill() {
    const active = /** @type {Document} */ (this.list.getRootNode()).activeElement;
    const row = this.list.contains(active) ? active.closest("li") : null;
    if (row && this.renaming) return; // a new thumbnail must not end the typing of a name
    this.renaming = false;
    const buttons = row ? /** @type {Element[]} */ ([...row.querySelectorAll("button")]) : [];
    const [at, control] = row ? [[...this.list.children].indexOf(row), buttons.indexOf(active)] : [-1, 0];
    this.list.replaceChildren(...this.lab.shelf.map((item) => this.entry(item)));
    this.empty.hidden = this.lab.shelf.length > 0;
    this.fetch();
    this.list.hidden = !this.empty.hidden;
    if (!row) return;
    // Focus the same control of the same latent, or of its neighbour if that was removed.
    const rows = /** @type {HTMLElement[]} */ ([...this.list.children]);
    const next = rows.find((element) => element.dataset.key === row.dataset.key) ?? rows[Math.min(at, rows.length - 1)];
    next?.querySelectorAll("button")[Math.max(0, control)]?.focus();
  }

  // Asks for the pictures that this page does not have, some at a time.
  async fetch() {
    const missing = this.lab.shelf.filter(({ png }) => png === undefined);
    if (this.fetching || !missing.length) return;
    this.fetching = true;
    try {
      const { message, buffers } = await this.lab.channel.ask({ do: "thumbnails", keys: missing.slice(0, AT_ONCE).map(({ key }) => key) });
      const fetched = message.keys.map((key, i) => [pictureName({ key, drawn: message.drawn }), buffers[i]]);
      const names = new Set(this.lab.shelf.map(pictureName));
      const pictures = Object.entries(this.lab.model.get("_shelf_pictures") ?? {}).concat(fetched).filter(([name]) => names.has(name));
      this.lab.model.set("_shelf_pictures", Object.fromEntries(pictures)); // also for a saved notebook
      this.fetching = false;
      if (fetched.length) this.lab.emit("shelf");
    } catch {
      this.fetching = false; // the error is already shown
    }
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
        ondragstart: (event) => event.dataTransfer.setData(DRAGGED, key),
      },
      this.lab.gallery.saved(png),
    );
    const item = h(
      "li",
      { "data-key": key },
      take,
      h("span", { class: "ll-name", title: name }, name),
      h(
        "span",
        { class: "ll-item-actions" },
        iconButton("pencil", `Rename ${name}`, () => this.rename(key, name, item)),
        iconButton("close", `Remove ${name}`, () => this.remove(key)),
      ),
    );
    return item;
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
