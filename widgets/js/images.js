import { button, h, labelled } from "./dom.js";
import { decodePicture } from "./pixels.js";

// Sources of images: the lab's own, a file, the clipboard, a path on the kernel's machine. A page without a kernel opens
// only latents: its info has the reasons, see page/contents.py.
export class Images {
  constructor(lab) {
    this.lab = lab;
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
    this.path = h("input", { type: "text", placeholder: "folder/image.png", spellcheck: false });
    this.thumbnails = h("div", { class: "ll-thumbs", role: "group", "aria-label": "Images" });
    this.element = h(
      "div",
      {},
      h(
        "form",
        {
          class: "ll-row",
          onsubmit: (event) => {
            event.preventDefault();
            this.lab.act({ do: "path", path: this.path.value });
          },
        },
        button("Open a file…", () => this.file.click()),
        this.encodes ? button("Paste", () => this.pasteFromClipboard()) : null,
        this.file,
        ...(lab.absent.path ? [] : [labelled("Path", this.path), h("button", { type: "submit", class: "ll-button" }, "Open")]),
      ),
      h("p", { class: "ll-hint" }, lab.absent.open ?? "Or drop an image (or latents as .safetensors) anywhere on the lab, or paste one with Ctrl+V."),
      this.thumbnails,
    );
    lab.follow("_thumbnails", () => this.fill());
    this.fill();
  }

  get encodes() {
    return !this.lab.absent.open;
  }

  async fill() {
    const { size, rows, png, names } = this.lab.model.get("_thumbnails");
    if (!rows) return;
    const sheet = await decodePicture("png", png, []);
    const [width, height] = size;
    this.thumbnails.replaceChildren(
      ...names.map((title, at) => {
        const canvas = h("canvas", { width, height, "aria-hidden": "true" });
        canvas.getContext("2d").drawImage(sheet, -at * width, 0);
        return h("button", { type: "button", class: "ll-thumb", title, "aria-label": title, onclick: () => this.lab.act({ do: "pick", index: rows[at] }) }, canvas);
      }),
    );
  }

  async openFile(file) {
    const data = await file.arrayBuffer();
    return this.lab.act({ do: "open", name: file.name || "pasted image" }, [data]);
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
