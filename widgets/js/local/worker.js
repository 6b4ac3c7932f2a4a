// The decoder in a thread of its own: onnxruntime-web, which stands before this script as `ort`, on one ONNX file.

let session = null;

async function open({ wasm, model }) {
  Object.assign(ort.env, { logLevel: "error" });
  Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1, proxy: false });
  const created = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"], logSeverityLevel: 3 });
  session = { run: (data, dims) => created.run({ latents: new ort.Tensor("float32", data, dims) }) };
}

// Pictures of latents (N, C, h, w), at most `size` = [height, width], of one band in gray, or of three or four.
async function decode({ data, dims, size, bands }) {
  const begin = performance.now();
  const { image } = await session.run(data, dims);
  const seconds = (performance.now() - begin) / 1000;
  const [count, channels, rows, columns] = image.dims;
  const [height, width] = [Math.min(rows, size[0]), Math.min(columns, size[1])];
  const shown = bands.length === 1 ? [bands[0], bands[0], bands[0]] : bands;
  if (!image.data.every(Number.isFinite)) throw new Error("What the decoder gives for this latent is NaN or infinite.");
  const pictures = Array.from({ length: count }, (_, n) => {
    const rgba = new Uint8ClampedArray(height * width * 4).fill(255); // which rounds and clamps what it is given
    shown.forEach((band, k) => {
      for (let y = 0; y < height; y += 1) {
        for (let x = 0; x < width; x += 1) {
          rgba[(y * width + x) * 4 + k] = (image.data[((n * channels + band) * rows + y) * columns + x] + 1) * 127.5;
        }
      }
    });
    return rgba;
  });
  return { pictures, size: [width, height], seconds };
}

self.onmessage = async ({ data: { id, ...message } }) => {
  try {
    const answer = message.model ? await open(message) : await decode(message);
    self.postMessage({ id, answer }, (answer?.pictures ?? []).map((rgba) => rgba.buffer));
  } catch (error) {
    self.postMessage({ id, error: String(error.message ?? error) });
  }
};
