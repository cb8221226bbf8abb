// Colours: shades of a micro-batch, readable text, hatching, and the notebook's theme.

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

const known = new Map();

/**
 * [red, green, blue, opacity] of any CSS colour; what is not #rrggbb is asked of a canvas, once.
 */
export function rgba(css) {
  if (!known.has(css)) {
    if (/^#[0-9a-f]{6}$/i.test(css)) known.set(css, [...channels(css), 1]);
    else {
      const probe = document.createElement("canvas").getContext("2d");
      probe.fillStyle = css; // normalised to #rrggbb, or rgba(r, g, b, a)
      const parts = probe.fillStyle.match(/[\d.]+/g);
      known.set(
        css,
        probe.fillStyle.startsWith("#") ? [...channels(probe.fillStyle), 1] : parts.map(Number),
      );
    }
  }
  return known.get(css);
}

function mix(hex, towards, amount) {
  const parts = channels(hex).map((c) => Math.round(c + (towards - c) * amount));
  return "#" + parts.map((c) => c.toString(16).padStart(2, "0")).join("");
}

const shades = new Map();

/**
 * The colour of one micro-batch: 0 (the first) lightened, 1 (the last) darkened. Same formula as
 * palette.py.
 */
export function shade(hex, fraction) {
  const key = `${hex} ${fraction}`;
  if (!shades.has(key))
    shades.set(
      key,
      fraction < 0.5
        ? mix(hex, 255, (0.5 - fraction) * 0.57)
        : mix(hex, 0, (fraction - 0.5) * 0.39),
    );
  return shades.get(key);
}

/** The shade of a bar: by its micro-batch, or the plain colour for one that stands for all. */
export function shadeOf(timeline, bar, theme) {
  const look = timeline.looks[bar.kind];
  const fraction =
    bar.microbatch < 0 ? 0.5 : bar.microbatch / Math.max(1, timeline.microbatches - 1);
  return shade(theme.dark ? look.dark : look.colour, fraction);
}

const edges = new Map();

/** A darker edge, so that amber and mint keep their shape on white. */
export function edge(hex) {
  if (!edges.has(hex)) edges.set(hex, mix(hex, 0, 0.35));
  return edges.get(hex);
}

function isLight(hex) {
  const [red, green, blue] = channels(hex);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 118;
}

export function inkOn(hex) {
  return isLight(hex) ? "#000000" : "#ffffff";
}

/** The theme's colours, from the custom properties that picture.css sets on `element`. */
export function readTheme(element) {
  const style = getComputedStyle(element);
  const theme = {};
  for (const name of ["ink", "muted", "paper", "accent", "strong"])
    theme[name] = style.getPropertyValue(`--pl-${name}`);
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = theme.paper; // the canvas normalises any CSS colour to #rrggbb
  theme.dark = !isLight(probe.fillStyle);
  theme.font = style.fontFamily;
  return theme;
}

const HATCHES = {
  "|": (pen) => pen.rect(2.5, 0, 1, 6),
  "/": (pen) => [0, 1, 2, 3, 4, 5].forEach((i) => pen.rect(i, 5 - i, 1.4, 1.4)),
  "\\": (pen) => [0, 1, 2, 3, 4, 5].forEach((i) => pen.rect(i, i, 1.4, 1.4)),
  "-": (pen) => pen.rect(0, 2.5, 6, 1),
  "+": (pen) => (pen.rect(0, 2.5, 6, 1), pen.rect(2.5, 0, 1, 2.5), pen.rect(2.5, 3.5, 1, 2.5)),
  ".": (pen) => pen.rect(2, 2, 2, 2),
  x: (pen) => [0, 1, 2, 3, 4, 5].forEach((i) => (pen.rect(i, i, 1, 1), pen.rect(i, 5 - i, 1, 1))),
};

const tiles = new Map();

/** A pattern for `pen` by its letter in palette.py, or null for a plain bar. */
export function hatch(pen, letter) {
  if (!HATCHES[letter]) return null;
  if (!tiles.has(letter)) tiles.set(letter, drawTile(HATCHES[letter]));
  return pen.createPattern(tiles.get(letter), "repeat");
}

function drawTile(draw) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = "rgba(0, 0, 0, 0.42)";
  pen.beginPath();
  draw(pen);
  pen.fill();
  return tile;
}
