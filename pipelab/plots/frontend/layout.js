// Where things stand in the picture. Pure arithmetic: no canvas, no DOM.
//
//   rank 0 │▒▒▒▒▒▒▒▒ predicted bars (thin where a measured lane follows)
//          │████████ measured bars
//          │▁▂▃▃▂▁   memory of that rank, under its own bars
//   rank 1 │ ...
//          └─┴─┴─┴─  time

const AXIS = 34;

/**
 * Lane heights in pixels: with one timeline, with two, strip, gap between ranks; sparse or dense,
 * strips tall or not.
 */
function sizes(ranks, tall) {
  const size = bare(ranks);
  return tall ? { ...size, strip: Math.round(1.6 * size.strip) } : size;
}

function bare(ranks) {
  return ranks > 8
    ? { single: 15, thin: 9, main: 14, strip: 24, gap: 6 }
    : { single: 22, thin: 10, main: 19, strip: 26, gap: 9 };
}

/**
 * width: pixels; ranks; timelines: how many (1 or 2); end: the latest time shown; tall: whether
 * strips show several parts. Returns rows (one per rank: lanes and strip as {top, height}), the
 * plot's left and right, the axis, the full height, and x(time), time(x).
 */
export function layout({ width, ranks, timelines, end, tall = false }) {
  const narrow = width < 560;
  const left = narrow ? 58 : timelines > 1 ? 124 : 104;
  const right = Math.max(left + 40, width - 44);
  const size = sizes(ranks, tall);
  const rows = [];
  let top = 4;
  for (let rank = 0; rank < ranks; rank += 1) {
    const lanes = [];
    let y = top;
    for (let i = 0; i < timelines; i += 1) {
      const height = timelines === 1 ? size.single : i === timelines - 1 ? size.main : size.thin;
      lanes.push({ top: y, height });
      y += height + 2;
    }
    const strip = { top: y, height: size.strip };
    rows.push({ rank, top, lanes, strip, bottom: y + size.strip });
    top = y + size.strip + size.gap;
  }
  const scale = (right - left) / (end > 0 ? end : 1);
  return {
    width,
    rows,
    left,
    right,
    narrow,
    axis: top - size.gap + 4,
    height: top - size.gap + AXIS,
    x: (time) => left + time * scale,
    time: (x) => Math.min(Math.max((x - left) / scale, 0), end),
  };
}

/** What lies under the pointer: {row, lane: index or null for the memory strip}, or null. */
export function hit(geometry, x, y) {
  if (x < geometry.left || x > geometry.right) return null;
  const row = geometry.rows.find((r) => y >= r.top && y <= r.bottom);
  if (!row) return null;
  const lane = row.lanes.findIndex((l) => y >= l.top && y <= l.top + l.height + 1);
  return { row, lane: lane < 0 ? null : lane };
}
