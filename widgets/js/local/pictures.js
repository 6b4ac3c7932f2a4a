import { bytesOf } from "../pixels.js";

const MOST_DECIBELS = 100; // between images that are equal, see metrics/reconstruction.py

// The context of a new canvas.
function drawing(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
}

// A picture { pixels (RGBA), size } at most `side` pixels wide and high.
export function thumbnailOf({ pixels, size: [width, height] }, side) {
  if (Math.max(width, height) <= side) return { pixels, size: [width, height] };
  const scale = side / Math.max(width, height);
  const [across, down] = [width, height].map((length) => Math.max(1, Math.round(length * scale)));
  const whole = drawing(width, height);
  whole.putImageData(new ImageData(pixels, width, height), 0, 0);
  const context = drawing(across, down);
  Object.assign(context, { imageSmoothingEnabled: true, imageSmoothingQuality: "high" });
  context.drawImage(whole.canvas, 0, 0, across, down);
  return { pixels: context.getImageData(0, 0, across, down).data, size: [across, down] };
}

// A picture as the bytes of a PNG file.
export async function pngOf({ pixels, size: [width, height] }) {
  const context = drawing(width, height);
  context.putImageData(new ImageData(pixels, width, height), 0, 0);
  const file = await new Promise((resolve) => { context.canvas.toBlob(resolve, "image/png"); });
  return new DataView(await file.arrayBuffer());
}

// The picture in a PNG file, which has its size there.
export async function pictureOf(png) {
  const bitmap = await createImageBitmap(new Blob([bytesOf(png)], { type: "image/png" }), { colorSpaceConversion: "none" });
  const context = drawing(bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return { pixels: context.getImageData(0, 0, bitmap.width, bitmap.height).data, size: [bitmap.width, bitmap.height] };
}

// PSNR in dB of the colours of two pictures of one size; undefined if the sizes differ.
export function decibels(a, b) {
  if (a.size.join() !== b.size.join()) return undefined;
  let sum = 0;
  for (let i = 0; i < a.pixels.length; i += 1) if (i % 4 < 3) sum += (a.pixels[i] - b.pixels[i]) ** 2;
  return Math.min(MOST_DECIBELS, 10 * Math.log10(255 ** 2 / (sum / (0.75 * a.pixels.length))));
}
