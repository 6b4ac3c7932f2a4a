import { floatsOf } from "../pixels.js";

// Latents [{ name, latent }] as a safetensors file.
export function toSafetensors(items, shape, metadata) {
  const header = { __metadata__: metadata };
  let end = 0;
  for (const { name, latent } of items) {
    const begin = end;
    end += latent.byteLength;
    header[name === "__metadata__" ? `_${name}` : name] = { dtype: "F32", shape, data_offsets: [begin, end] };
  }
  const words = new TextEncoder().encode(JSON.stringify(header));
  const first = 8 + Math.ceil(words.length / 8) * 8;
  const bytes = new Uint8Array(first + end).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(first - 8), true);
  bytes.set(words, 8);
  for (const { name, latent } of items) {
    bytes.set(new Uint8Array(latent.buffer, latent.byteOffset, latent.byteLength), first + header[name === "__metadata__" ? `_${name}` : name].data_offsets[0]);
  }
  return new DataView(bytes.buffer);
}

// The latents of a shape in a safetensors file: [{ name, latent }].
export function fromSafetensors(buffer, shape) {
  let header;
  let first;
  try {
    first = 8 + Number(new DataView(buffer).getBigUint64(0, true));
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, first - 8)));
  } catch {
    throw new Error("This file cannot be read as safetensors.");
  }
  const found = [];
  for (const [name, { dtype, shape: of, data_offsets: place }] of Object.entries(header)) {
    if (name === "__metadata__" || dtype !== "F32" || of.join() !== shape.join()) continue;
    const latent = floatsOf(new DataView(buffer, first + place[0], place[1] - place[0]));
    if (latent.every(Number.isFinite)) found.push({ name, latent });
  }
  if (!found.length) throw new Error(`This file has no latent of the shape ${shape.join("×")} in float32.`);
  return found;
}
