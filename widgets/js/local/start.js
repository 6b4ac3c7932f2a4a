import { render } from "../index.js";
import { LocalDecoder } from "./decoder.js";
import { LocalKernel } from "./kernel.js";

// A page that is a lab: its data are in elements that page/__init__.py writes.

function bytesIn(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// The bytes of a file that stands compressed in an element.
async function fileIn(id) {
  const stream = new Blob([bytesIn(document.getElementById(id).textContent)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function partsOfDecoder() {
  const [worker, wasm, model] = await Promise.all(["worker", "wasm", "decoder"].map(fileIn));
  return { worker, wasm, model };
}

function start() {
  const revive = (_, value) => (typeof value?.base64 === "string" ? new DataView(bytesIn(value.base64).buffer) : value);
  const page = JSON.parse(document.getElementById("lab-data").textContent, revive);
  const decoder = new LocalDecoder(partsOfDecoder(), { shape: page.traits._info.latent, ...page.decoder });
  render({ model: new LocalKernel(page, decoder), el: document.getElementById("lab") });
}

start();
