// Rectangles straight into pixels: thousands of them take a millisecond or two, where a canvas
// without a GPU, as in a remote browser or a virtual machine, takes tens. Offers the few members of
// a 2-D context that draw.js uses for boxes.
import { rgba } from "./colour.js";

/** Pixels in a row: shorter ones are written one by one, which is faster than a call. */
const LONG = 128;

export class Raster {
  /** `image` is an ImageData of device pixels, `ratio` of them to a CSS pixel. */
  constructor(image, ratio) {
    this.image = image;
    this.ratio = ratio;
    this.pixels = new Uint32Array(image.data.buffer);
    this.globalAlpha = 1;
    this.fresh = true; // nothing has been drawn yet where rectangles come
    this.fillStyle = "#000000";
  }

  /**
   * A pattern that repeats `tile` (a small canvas): its pixels that are set hatch whatever is
   * there.
   */
  createPattern(tile) {
    const { width, height } = tile;
    const { data } = tile.getContext("2d").getImageData(0, 0, width, height);
    return { width, height, alpha: data.filter((_, i) => i % 4 === 3) };
  }

  fillRect(x, y, width, height) {
    const { ratio, image } = this;
    const left = Math.max(0, Math.round(x * ratio));
    const right = Math.min(image.width, Math.round((x + width) * ratio));
    const top = Math.max(0, Math.round(y * ratio));
    const bottom = Math.min(image.height, Math.round((y + height) * ratio));
    if (typeof this.fillStyle !== "string")
      return this.#hatch(left, right, top, bottom, this.fillStyle);
    const [red, green, blue, opacity] = rgba(this.fillStyle);
    const alpha = opacity * this.globalAlpha;
    const { pixels } = this;
    const pixel = pack(red, green, blue, Math.round(alpha * 255));
    const opaque = alpha > 0.995;
    if (right <= left) return;
    const long = right - left > LONG && (opaque || this.fresh);
    for (let row = top; row < bottom; row++) {
      const start = row * image.width + left;
      const stop = start + right - left;
      if (long) pixels.fill(pixel, start, stop);
      else if (opaque) for (let at = start; at < stop; at++) pixels[at] = pixel;
      else
        for (let at = start; at < stop; at++) {
          if (pixels[at] === 0) pixels[at] = pixel;
          else this.#blend(at, red, green, blue, alpha);
        }
    }
  }

  #hatch(left, right, top, bottom, { width, height, alpha }) {
    for (let row = top; row < bottom; row++) {
      const line = (Math.floor(row / this.ratio) % height) * width;
      for (let column = left; column < right; column++) {
        const dark = alpha[line + (Math.floor(column / this.ratio) % width)];
        if (dark) this.#blend(row * this.image.width + column, 0, 0, 0, dark / 255);
      }
    }
  }

  /** One pixel over what is there ("source over", colours not premultiplied). */
  #blend(at, red, green, blue, alpha) {
    const old = this.pixels[at];
    const below = ((old >>> 24) / 255) * (1 - alpha);
    const total = alpha + below;
    const mix = (over, under) => Math.round((over * alpha + under * below) / total);
    this.pixels[at] = pack(
      mix(red, old & 255),
      mix(green, (old >> 8) & 255),
      mix(blue, (old >> 16) & 255),
      Math.round(total * 255),
    );
  }
}

/** A pixel of ImageData as one number (all machines that run browsers are little-endian). */
function pack(red, green, blue, alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
