import { button, h } from "./dom.js";
import { DRAGGED } from "./slot.js";

const megabytes = (bytes) => Math.ceil(bytes / 2 ** 20);

// Sources of images: the lab's own, a file, the clipboard, a path on the kernel's machine. A page without a kernel opens
// only latents: its info has the reasons, see page/contents.py.
export class Images {
  constructor(lab) {
    this.lab = lab;
    this.uploads = 0; // files opened so far
    this.file = h("input", {
      type: "file",
      accept: this.encodes ? "image/*,.safetensors" : ".safetensors",
      class: "ll-hidden",
      tabIndex: -1,
      "aria-label": "Image file, or latents as safetensors",
      onchange: () => {
        if (this.file.files.length) this.openFile(this.file.files[0]);
        this.file.value = "";
      },
    });
    this.path = h("input", { type: "text", placeholder: "or a path: folder/image.png", "aria-label": "Path of an image, on the kernel's machine", title: "Path of an image, on the kernel's machine", spellcheck: false });
    this.thumbnails = h("div", { class: "ll-thumbs", role: "group", "aria-label": "Images" });
    this.element = h(
      "div",
      {},
      h(
        "form",
        {
          class: "ll-row ll-sources",
          onsubmit: (event) => {
            event.preventDefault();
            this.lab.act({ do: "path", path: this.path.value });
          },
        },
        button("Open a file…", () => this.file.click()),
        this.encodes ? button("Paste", () => this.pasteFromClipboard()) : null,
        ...(lab.absent.path ? [] : [this.path, h("button", { type: "submit", class: "ll-button" }, "Open")]),
      ),
      lab.absent.open ? h("p", { class: "ll-hint" }, lab.absent.open) : null,
      this.thumbnails,
    );
    lab.on("gallery", () => this.fill());
    lab.on("picture", () => this.mark());
    lab.on("selection", () => this.mark());
  }

  get encodes() {
    return !this.lab.absent.open;
  }

  fill() {
    const { gallery } = this.lab;
    this.thumbnails.replaceChildren(
      ...gallery.rows.map((row) => {
        const title = gallery.name(row);
        const pick = () => this.lab.act({ do: "pick", index: row });
        const drag = (event) => event.dataTransfer.setData(DRAGGED, `image:${row}`);
        return h("button", { type: "button", class: "ll-thumb", title, "aria-label": title, "data-row": row, draggable: true, onclick: pick, ondragstart: drag }, gallery.picture(row));
      }),
    );
    this.mark();
  }

  // The image that is open, and those that are selected on the map.
  mark() {
    const selected = new Set(this.lab.selection);
    for (const element of /** @type {Iterable<HTMLElement>} */ (this.thumbnails.children)) {
      const row = Number(element.dataset.row);
      if (row === this.lab.row) element.setAttribute("aria-current", "true");
      else element.removeAttribute("aria-current");
      element.classList.toggle("ll-selected", selected.has(row));
    }
  }

  async openFile(file) {
    const name = file.name || "pasted image";
    const { most = Infinity, piece = Infinity } = this.lab.info.upload ?? {};
    if (file.size > most) {
      this.lab.complain(`${name} has ${megabytes(file.size)} MB: up to ${megabytes(most)} MB can be sent to the kernel. Open it by its path there.`);
      return undefined;
    }
    this.uploads += 1;
    const upload = this.uploads;
    let at = 0;
    for (; at + piece < file.size; at += piece) {
      const data = await file.slice(at, at + piece).arrayBuffer();
      if (!(await this.lab.ask({ do: "piece", upload, at }, [data]))) return undefined;
      this.lab.say(`sending ${name}: ${megabytes(at + piece)} of ${megabytes(file.size)} MB`);
    }
    return this.lab.act({ do: "open", name, upload, at }, [await file.slice(at).arrayBuffer()]);
  }

  async pasteFromClipboard() {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((name) => name.startsWith("image/"));
        if (type) {
          await this.openFile(new File([await item.getType(type)], "pasted image", { type }));
          return;
        }
      }
      this.lab.complain("There is no image on the clipboard: copy one first.");
    } catch {
      this.lab.complain("The browser does not let the lab read the clipboard: click here and press Ctrl+V instead.");
    }
  }

  // Accepts images dropped or pasted anywhere on the lab.
  listen(root) {
    root.addEventListener("dragover", (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      root.classList.add("ll-dropping");
    });
    root.addEventListener("dragleave", (event) => {
      if (!root.contains(event.relatedTarget)) root.classList.remove("ll-dropping");
    });
    root.addEventListener("drop", (event) => {
      root.classList.remove("ll-dropping");
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      event.stopPropagation();
      this.openFile(event.dataTransfer.files[0]);
    });
    root.addEventListener("paste", (event) => {
      event.stopPropagation();
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      this.openFile(file);
    });
  }
}
