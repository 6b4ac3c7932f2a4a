const FIRST_TRUST = 0.5; // weight of a time lower than those before: the first decode is slower than all others
const LATER_TRUST = 0.2;

// The decoder of the page, in a worker.
export class LocalDecoder {
  // `parts` resolves to { worker, wasm, model }: a script and two binary files.
  constructor(parts, { shape, imageSize, ratio, bands }) {
    this.shape = shape;
    this.imageSize = imageSize;
    this.ratio = ratio;
    this.bands = bands;
    this.seconds = 0; // of a decode at full size, a moving average
    this.waiting = new Map(); // id -> { resolve, reject }
    this.lastId = 0;
    this.opened = parts.then(({ worker, ...files }) => this.start(worker, files));
    this.opened.catch(() => {}); // each decode tells
  }

  start(source, files) {
    this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    this.worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`The decoder stopped: ${event.message || "this browser does not run it"}. Open the page again.`);
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
    return this.ask(files, [files.wasm, files.model]);
  }

  ask(message, transfer) {
    this.lastId += 1;
    const id = this.lastId;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message }, transfer);
    });
  }

  // Pictures (RGBA) of latents that all have a shape (C, h, w): { pictures, size: [width, height] }.
  async decode(latents, shape = this.shape) {
    await this.opened;
    const data = new Float32Array(latents.length * latents[0].length);
    latents.forEach((latent, i) => data.set(latent, i * latent.length));
    const size = this.flat ? this.imageSize : this.imageSize.map((side, i) => Math.min(side, shape[i + 1] * this.ratio));
    return this.ask({ data, dims: [latents.length, ...shape], size, bands: this.bands }, [data.buffer]);
  }

  // The picture of one latent at full size: { pixels, size }. It measures the time that takes.
  async decodeFull(latent) {
    const { pictures: [pixels], size, seconds } = await this.decode([latent]);
    const trust = seconds < this.seconds ? FIRST_TRUST : LATER_TRUST;
    this.seconds = this.seconds ? this.seconds + trust * (seconds - this.seconds) : seconds;
    return { pixels, size };
  }

  get flat() {
    return this.shape[1] === 1 && this.shape[2] === 1;
  }
}
