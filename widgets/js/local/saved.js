const MOST = 1000; // latents on a shelf

// Saved latents { key, name, latent }, see shelf.py.
export class SavedLatents {
  constructor(items, images, changed) {
    this.items = items;
    this.images = images; // by row: operands as well, under the key "image:ROW"
    this.changed = changed; // called after each change
    this.lastKey = 0;
  }

  byKey(key) {
    const image = key.startsWith("image:") ? this.images.get(Number(key.slice(6))) : undefined;
    const found = image ? { key, name: image.name.split(",")[0], latent: image.mean } : this.items.find((item) => item.key === key);
    if (!found) throw new Error("This latent is no longer on the shelf: choose another.");
    return found;
  }

  add(name, latent) {
    if (this.items.length >= MOST) throw new Error(`The shelf is full: it has ${MOST} latents.`);
    this.lastKey += 1;
    const item = { key: `page-${this.lastKey}`, name: this.unused(name), latent: Float32Array.from(latent) };
    this.items = [...this.items, item];
    this.changed();
    return item;
  }

  remove(key) {
    this.byKey(key);
    this.items = this.items.filter((item) => item.key !== key);
    this.changed();
  }

  rename(key, name) {
    const { name: before } = this.byKey(key);
    if (!name.trim()) throw new Error("An empty name was given: enter at least one character.");
    if (name !== before) this.items = this.items.map((item) => (item.key === key ? { ...item, name: this.unused(name.trim()) } : item));
    this.changed();
  }

  unused(name) {
    const taken = new Set(this.items.map((item) => item.name));
    let [free, number] = [name, 1];
    while (taken.has(free)) {
      number += 1;
      free = `${name} (${number})`;
    }
    return free;
  }
}
