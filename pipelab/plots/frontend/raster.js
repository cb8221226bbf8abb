// Rectangles straight into pixels: thousands of them take a millisecond or two, where a canvas
// without a GPU, as in a remote browser or a virtual machine, takes tens. Offers the few members of
// a 2-D context that draw.js uses for boxes.
import { rgba } from "./colour.js";

/** Pixels in a row: shorter ones are written one by one, which is faster than a call. */
const LONG = 128;

const patterns = new WeakMap(); // of tiles: to read one back from a canvas is slow

export class Raster {
  #style = "#000000";
  #alpha = 1;
  #pen = null; // what style and alpha come to, once something is filled with them

  /** `image` is an ImageData of device pixels, `ratio` of them to a CSS pixel; it is cleared. */
  constructor(image, ratio) {
    this.image = image;
    this.ratio = ratio;
    this.pixels = new Uint32Array(image.data.buffer).fill(0);
  }

  get fillStyle() {
    return this.#style;
  }

  set fillStyle(style) {
    this.#style = style;
    this.#pen = null;
  }

  get globalAlpha() {
    return this.#alpha;
  }

  set globalAlpha(alpha) {
    this.#alpha = alpha;
    this.#pen = null;
  }

  /**
   * A pattern that repeats `tile` (a small canvas): its pixels that are set hatch whatever is
   * there.
   */
  createPattern(tile) {
    if (!patterns.has(tile)) {
      const { width, height } = tile;
      const { data } = tile.getContext("2d").getImageData(0, 0, width, height);
      const inks = Array.from({ length: width * height }, (_, i) => {
        const [red, green, blue, alpha] = data.subarray(4 * i, 4 * i + 4);
        return alpha && ink([red, green, blue, 1], alpha / 255);
      });
      patterns.set(tile, { width, height, inks });
    }
    return patterns.get(tile);
  }

  fillRect(x, y, width, height) {
    const { ratio, image, pixels } = this;
    const left = Math.max(0, Math.round(x * ratio));
    const right = Math.min(image.width, Math.round((x + width) * ratio));
    const top = Math.max(0, Math.round(y * ratio));
    const bottom = Math.min(image.height, Math.round((y + height) * ratio));
    if (right <= left) return;
    if (typeof this.#style !== "string") this.#hatch(left, right, top, bottom, this.#style);
    else {
      const pen = (this.#pen ??= ink(rgba(this.#style), this.#alpha));
      const across = right - left;
      const stop = bottom * image.width;
      for (let start = top * image.width + left; start < stop; start += image.width)
        if (!pen.opaque) lay(pixels, start, start + across, pen);
        else if (across > LONG) pixels.fill(pen.pixel, start, start + across);
        else for (let at = start; at < start + across; at++) pixels[at] = pen.pixel;
    }
  }

  #hatch(left, right, top, bottom, { width, height, inks }) {
    for (let row = top; row < bottom; row++) {
      const line = (Math.floor(row / this.ratio) % height) * width;
      const start = row * this.image.width;
      for (let column = left; column < right; column++) {
        const pen = inks[line + (Math.floor(column / this.ratio) % width)];
        if (pen) lay(this.pixels, start + column, start + column + 1, pen);
      }
    }
  }
}

/** What one colour writes: its channels, and the pixel that it leaves where nothing is yet. */
function ink([red, green, blue, opacity], share) {
  const alpha = opacity * share;
  const pixel = pack(red, green, blue, Math.round(alpha * 255));
  return { red, green, blue, alpha, pixel, opaque: alpha > 0.995 };
}

/** Pixels of a row over what is there ("source over", colours not premultiplied). */
function lay(pixels, start, stop, { red, green, blue, alpha, pixel }) {
  for (let at = start; at < stop; at++) {
    const old = pixels[at];
    if (old === 0) {
      pixels[at] = pixel;
      continue;
    }
    const below = ((old >>> 24) / 255) * (1 - alpha);
    const total = alpha + below;
    pixels[at] = pack(
      Math.round((red * alpha + (old & 255) * below) / total),
      Math.round((green * alpha + ((old >> 8) & 255) * below) / total),
      Math.round((blue * alpha + ((old >> 16) & 255) * below) / total),
      Math.round(total * 255),
    );
  }
}

/** A pixel of ImageData as one number (all machines that run browsers are little-endian). */
function pack(red, green, blue, alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
