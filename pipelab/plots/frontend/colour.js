// Colours: shades of a micro-batch, readable text, hatching, and the notebook's theme.

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function mix(hex, towards, amount) {
  const parts = channels(hex).map((c) => Math.round(c + (towards - c) * amount));
  return "#" + parts.map((c) => c.toString(16).padStart(2, "0")).join("");
}

/** The colour of one micro-batch: 0 (the first) lightened, 1 (the last) darkened. Same formula as palette.py. */
export function shade(hex, fraction) {
  return fraction < 0.5 ? mix(hex, 255, (0.5 - fraction) * 0.57) : mix(hex, 0, (fraction - 0.5) * 0.39);
}

/** A darker edge, so that amber and mint keep their shape on white. */
export function edge(hex) {
  return mix(hex, 0, 0.35);
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
  for (const name of ["ink", "muted", "paper", "accent"]) theme[name] = style.getPropertyValue(`--pl-${name}`);
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = theme.paper; // the canvas normalises any CSS colour to #rrggbb
  theme.dark = !isLight(probe.fillStyle);
  theme.font = style.fontFamily;
  return theme;
}

const HATCHES = {
  "|": (pen) => pen.rect(2.5, 0, 1, 6),
  "/": (pen) => [0, 1, 2, 3, 4, 5].forEach((i) => pen.rect(i, 5 - i, 1.4, 1.4)),
  ".": (pen) => pen.rect(2, 2, 2, 2),
  x: (pen) => [0, 1, 2, 3, 4, 5].forEach((i) => (pen.rect(i, i, 1, 1), pen.rect(i, 5 - i, 1, 1))),
};

/** A canvas pattern by its letter in palette.py, or null for a plain bar. */
export function hatch(context, letter) {
  const draw = HATCHES[letter];
  if (!draw) return null;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = "rgba(0, 0, 0, 0.42)";
  pen.beginPath();
  draw(pen);
  pen.fill();
  return context.createPattern(tile, "repeat");
}
