// Pictures and numbers from the bytes of messages.

export function bytesOf(view) {
  return new Uint8ClampedArray(view.buffer, view.byteOffset, view.byteLength);
}

export function floatsOf(view) {
  // A copy, because a view may start at an offset that Float32Array does not accept.
  return new Float32Array(bytesOf(view).slice().buffer);
}

export function intsOf(view) {
  return new Int32Array(bytesOf(view).slice().buffer);
}

/**
 * What a canvas can draw: ImageData, or a promise of an ImageBitmap.
 *
 * @param {string} format
 * @param {DataView} view
 * @param {number[]} size
 */
export function decodePicture(format, view, [width, height]) {
  if (format === "rgba") return new ImageData(bytesOf(view), width, height);
  return createImageBitmap(new Blob([bytesOf(view)], { type: `image/${format}` }));
}

// Draws a picture on a canvas of its size; the style sheet decides how large that is shown.
export function paint(canvas, picture) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    Object.assign(canvas, { width: picture.width, height: picture.height });
  }
  const context = canvas.getContext("2d", { willReadFrequently: true }); // the error is calculated from two of them
  if (picture instanceof ImageData) context.putImageData(picture, 0, 0);
  else {
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0);
  }
}

// The largest difference of the three colours at each pixel, times `gain`, in gray. Null if the sizes differ.
export function differencePicture(a, b, gain) {
  if (a.width !== b.width || a.height !== b.height || !a.width) return null;
  const read = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const [x, y] = [read(a), read(b)];
  const result = new ImageData(a.width, a.height);
  for (let i = 0; i < x.length; i += 4) {
    const most = Math.max(Math.abs(x[i] - y[i]), Math.abs(x[i + 1] - y[i + 1]), Math.abs(x[i + 2] - y[i + 2]));
    result.data[i] = result.data[i + 1] = result.data[i + 2] = most * gain;
    result.data[i + 3] = 255;
  }
  return result;
}
