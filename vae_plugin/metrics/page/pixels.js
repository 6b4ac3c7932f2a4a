// Pictures as their 8-bit pixels, and the difference of two of them.

/** A picture of the page as a canvas whose pixels are those of the PNG. */
async function decoded(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(image, 0, 0);
  return canvas;
}

function pixelsOf(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, canvas.width, canvas.height);
}

/** The level that shows a difference of two values: gray or black for none. */
function shownDifference(difference, gain, signed) {
  return signed ? 128 + gain * difference : Math.abs(gain * difference);
}

/** A canvas of the amplified difference, right - left, of each channel. */
function differenceOf(left, right, gain, signed) {
  const [a, b] = [pixelsOf(left), pixelsOf(right)];
  for (let i = 0; i < a.data.length; i++) {
    if (i % 4 < 3) a.data[i] = shownDifference(b.data[i] - a.data[i], gain, signed); // clamped by the array
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [left.width, left.height];
  canvas.getContext("2d").putImageData(a, 0, 0);
  return canvas;
}
