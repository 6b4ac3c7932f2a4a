import { number } from "./numbers.js";

// The axes of the latent space, and the coordinates of the encoded images along them.
export class LatentSpace {
  constructor({ axes, images, rows, total, complete }, points, labels, names) {
    this.axes = axes;
    this.rows = rows; // of the encoded images in the lab's images
    this.count = images;
    this.points = points; // (count, axes.length), row by row
    this.labels = labels;
    this.names = names; // of the lab's images
    this.total = total; // of the lab's images
    this.complete = complete; // whether no more are being encoded
  }

  axis(key) {
    return this.axes.find((axis) => axis.key === key);
  }

  // The position of an axis in a list of coordinates, or -1.
  indexOf(key) {
    return this.axes.findIndex((axis) => axis.key === key);
  }

  // The coordinates of all images along an axis.
  column(key) {
    const at = this.indexOf(key);
    return Array.from({ length: this.count }, (_, i) => this.points[i * this.axes.length + at]);
  }

  // The squared distance of two images along the principal directions, or along all axes if there are none.
  distance(i, j) {
    const width = this.axes.length;
    const directions = this.axes.some(({ group }) => group === "directions");
    let sum = 0;
    this.axes.forEach(({ group }, at) => {
      if (!directions || group === "directions") sum += (this.points[i * width + at] - this.points[j * width + at]) ** 2;
    });
    return sum;
  }

  // The group of the axes that the model has names for; otherwise that of the principal directions.
  get telling() {
    const named = this.axes.find(({ key, name, group }) => ["dimensions", "channels"].includes(group) && name !== key);
    return named?.group ?? "directions";
  }

  // The axes as options of a select, those of one group first.
  options(firstGroup = null) {
    const axes = [...this.axes];
    if (firstGroup) axes.sort((a, b) => Number(b.group === firstGroup) - Number(a.group === firstGroup));
    return axes.map(({ key, name, detail }) => ({ value: key, text: `${name} (${detail})` }));
  }

  describeImage(i) {
    if (i < 0) return "none";
    const row = this.rows[i];
    const labels = this.labels.map(({ name, names, values }) => `${name} ${names ? names[values[row]] : number(values[row] ?? NaN)}`);
    return [this.names[row], ...labels].join(", ");
  }
}
