// What can be calculated with: the latents on the shelf, then those of the images. Keys are those of operands.py.
export class Operands {
  constructor(lab) {
    this.lab = lab;
  }

  get saved() {
    return this.lab.shelf.map(({ key, name, png }) => ({ key, name, picture: () => this.lab.gallery.saved(png) }));
  }

  get images() {
    const { gallery, space } = this.lab;
    const encoded = new Set(space?.rows ?? []);
    return gallery.rows.filter((row) => encoded.has(row)).map((row) => this.image(row));
  }

  image(row) {
    const { gallery } = this.lab;
    return { key: `image:${row}`, name: gallery.name(row).split(",")[0], title: gallery.name(row), picture: () => gallery.picture(row) };
  }

  // The operand with a key; undefined if it is gone.
  find(key) {
    return [...this.saved, ...this.images].find((operand) => operand.key === key);
  }

  // Keys to begin with: the first latents of the shelf, then images far from each other.
  suggest(count) {
    const keys = this.saved.slice(0, count).map(({ key }) => key);
    const { gallery, space } = this.lab;
    if (!space) return keys;
    const free = space.rows.map((row, i) => ({ row, i })).filter(({ row }) => gallery.has(row));
    // Images beside a saved latent differ from the one that is open, which it may be.
    const chosen = keys.length ? [Math.max(0, space.rows.indexOf(this.lab.row))] : [];
    while (keys.length < count && free.length) {
      const far = ({ i }) => Math.min(...chosen.map((j) => space.distance(i, j)));
      const best = chosen.length ? free.reduce((a, b) => (far(b) > far(a) ? b : a)) : free[0];
      chosen.push(best.i);
      keys.push(`image:${best.row}`);
      if (free.length > 1) free.splice(free.indexOf(best), 1);
    }
    return keys;
  }
}
