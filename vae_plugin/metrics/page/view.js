// The part of an image that the stage shows, in pixels of the screen: where it lies, how large, and where the wipe is.

const LARGEST_ZOOM = 64;

class View {
  constructor() {
    this.stage = [1, 1]; // width and height
    this.image = [1, 1];
    this.zoom = 1; // pixels of the screen for one of the image: whole, or less than 1 where that alone shows all of it
    this.offset = [0, 0]; // of the image's corner
    this.wipe = 0.5; // of the image's width
    this.fitted = true;
  }

  resize(stage, image) {
    this.stage = stage;
    this.image = image;
    if (this.fitted) this.fit();
    else this.settle();
  }

  get fitting() {
    const zoom = Math.min(this.stage[0] / this.image[0], this.stage[1] / this.image[1]);
    return zoom < 1 ? zoom : Math.min(LARGEST_ZOOM, Math.floor(zoom));
  }

  fit() {
    this.zoomTo(this.fitting);
    this.fitted = true;
  }

  /** Zoom, and keep the point of the image that is at a point of the stage (its middle, unless given) where it is. */
  zoomTo(zoom, at = this.stage.map((side) => side / 2)) {
    const before = this.zoom;
    this.zoom = zoom;
    this.offset = this.offset.map((offset, k) => at[k] - ((at[k] - offset) * zoom) / before);
    this.fitted = false;
    this.settle();
  }

  /** The next whole zoom, larger or smaller; smaller than 1 is the whole image alone. */
  step(direction, at) {
    const least = Math.min(1, this.fitting);
    const next = direction > 0 ? Math.floor(this.zoom) + 1 : Math.ceil(this.zoom) - 1;
    this.zoomTo(next < 1 ? least : Math.min(LARGEST_ZOOM, next), at);
  }

  move(by) {
    this.offset = this.offset.map((offset, k) => offset + by[k]);
    this.settle();
  }

  /** Whole pixels, the middle where the image is smaller than the stage, and no empty margin where it is larger. */
  settle() {
    this.offset = this.offset.map((offset, k) => {
      const free = this.stage[k] - this.image[k] * this.zoom;
      return Math.round(free >= 0 ? free / 2 : Math.min(0, Math.max(free, offset)));
    });
  }

  get pans() {
    return this.image.some((side, k) => side * this.zoom > this.stage[k]);
  }

  /** Where the wipe is on the stage: between two pixels of the screen. */
  get wipeAt() {
    return Math.round(this.offset[0] + this.wipe * this.image[0] * this.zoom);
  }

  wipeTo(x) {
    this.wipe = Math.min(1, Math.max(0, (x - this.offset[0]) / (this.image[0] * this.zoom)));
  }

  /** The pixel of the image at a point of the stage; null beside it. */
  pixelAt(point) {
    const pixel = point.map((at, k) => Math.floor((at - this.offset[k]) / this.zoom));
    return pixel.every((at, k) => at >= 0 && at < this.image[k]) ? pixel : null;
  }

  /** Draw two pictures with the wipe between them, or one alone. */
  draw(canvas, left, right) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, ...this.stage);
    context.imageSmoothingEnabled = this.zoom < 1;
    context.imageSmoothingQuality = "high";
    const place = [...this.offset, ...this.image.map((side) => side * this.zoom)];
    context.drawImage(left, ...place);
    if (!right) return;
    context.save();
    context.beginPath();
    context.rect(this.wipeAt, 0, this.stage[0], this.stage[1]);
    context.clip();
    context.drawImage(right, ...place);
    context.restore();
  }
}
