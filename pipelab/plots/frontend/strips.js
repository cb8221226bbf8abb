// The memory of each rank under its bars: stacked parts, the peak marked, and the limit where there
// is one.
import { hatch } from "./colour.js";
import { memory } from "./format.js";

/**
 * How a part of the memory is drawn: greys and patterns, for hues mean kinds of actions. Bottom to
 * top.
 */
export const PARTS = [
  { name: "weights", title: "weights", tone: 0.62, pattern: "" },
  { name: "weight_versions", title: "older weights", tone: 0.5, pattern: "/" },
  { name: "optimizer_state", title: "optimizer state", tone: 0.42, pattern: "x" },
  { name: "gradients", title: "gradients", tone: 0.26, pattern: "." },
  { name: "activations", title: "activations", tone: 0.32, pattern: "" },
];

/** The level at the top of a timeline's strips: its own, or the one that it shares with others. */
export function ceiling(timeline) {
  return timeline.ceiling ?? ownCeiling(timeline);
}

/**
 * Give timelines that count in one unit one level at the top, so that their strips can be compared.
 * It is not below `least`, levels by unit. Returns the levels.
 */
export function shareCeiling(timelines, least = {}) {
  const levels = { ...least };
  for (const timeline of timelines) {
    const unit = timeline.memory_unit;
    levels[unit] = Math.max(levels[unit] ?? 0, ownCeiling(timeline));
  }
  for (const timeline of timelines) timeline.ceiling = levels[timeline.memory_unit];
  return levels;
}

/** The peak of a timeline, or its limit where that is a little higher. */
function ownCeiling(timeline) {
  const peak = timeline.memory_peak || 1;
  const limit = Math.max(0, ...(timeline.limits ?? []));
  return limit > peak && limit <= 2 * peak ? limit : peak;
}

/**
 * What a rank holds before its first action and after its last: of several parts, those that are
 * there all the time.
 */
function resident(timeline, steps) {
  if (timeline.parts.length === 1 || !steps.length) return { level: 0 };
  const parts = steps[0].parts.map((part, i) =>
    ["activations", "gradients"].includes(timeline.parts[i]) ? 0 : part,
  );
  return { level: parts.reduce((sum, part) => sum + part, 0), parts };
}

/** A box {x, width, step} for every stretch of whole pixels at one level, left to right. */
function stretches(geometry, timeline, rank) {
  const boxes = [];
  const steps = timeline.memory[rank];
  let x = geometry.left;
  let now = resident(timeline, steps);
  for (const step of timeline.parts.length > 1 && steps.length
    ? [...steps, { ...steps.at(-1), time: timeline.end }]
    : steps) {
    const to = Math.min(Math.round(geometry.x(step.time)), geometry.right);
    // what lasts less than a pixel would only be a smear
    if (to > x) boxes.push({ x, width: to - x, step: now });
    x = Math.max(x, to); // the two halves of an overlap have the same times
    now = step;
  }
  return boxes;
}

/**
 * Boxes of each part, as {part, boxes: [{x, y, width, height}]}; of the whole where there is one
 * part only.
 */
function layers(timeline, boxes, y) {
  if (timeline.parts.length === 1) {
    return [
      {
        part: PARTS.at(-1),
        boxes: boxes.map(({ x, width, step }) => ({
          x,
          y: y(step.level),
          width,
          height: y(0) - y(step.level),
        })),
      },
    ];
  }
  const below = boxes.map(() => 0);
  return PARTS.filter(({ name }) => timeline.parts.includes(name)).map((part) => {
    const index = timeline.parts.indexOf(part.name);
    const mine = boxes.map(({ x, width, step }, i) => {
      const from = below[i];
      below[i] += step.parts?.[index] ?? 0;
      return { x, y: y(below[i]), width, height: y(from) - y(below[i]) };
    });
    return { part, boxes: mine };
  });
}

/**
 * Strips on one scale for all ranks: the last timeline filled, an earlier one as an outline.
 * Rectangles of whole pixels: to stroke paths of some thousand steps would take most of the time of
 * a picture.
 */
export function drawStrips(pen, geometry, timelines, theme) {
  timelines.forEach((timeline, index) => {
    const filled = index === timelines.length - 1;
    for (const { rank, strip } of geometry.rows.slice(0, timeline.ranks)) {
      const top = ceiling(timeline);
      const y = (level) =>
        Math.round(strip.top + strip.height - (strip.height - 1) * (level / top));
      const boxes = stretches(geometry, timeline, rank);
      if (filled) fill(pen, layers(timeline, boxes, y), theme);
      outline(pen, boxes, y, filled ? theme.muted : theme.ink, filled ? 1 : 0.7);
      if (filled) mark(pen, geometry, timeline, rank, y, theme);
    }
  });
  pen.fillStyle = theme.muted;
  pen.globalAlpha = 0.5;
  for (const { strip } of geometry.rows) {
    pen.fillRect(geometry.left, strip.top + strip.height, geometry.right - geometry.left, 1);
  }
  pen.globalAlpha = 1;
}

/** The memory before the last move as a dotted line, on the scale of the timeline that is shown. */
export function drawGhost(pen, geometry, ghost, timeline, theme) {
  if (ghost.memory_unit !== timeline.memory_unit || ghost.unit !== timeline.unit) return;
  pen.fillStyle = theme.strong;
  const top = ceiling(timeline);
  for (const { rank, strip } of geometry.rows.slice(0, ghost.ranks)) {
    const y = (level) => Math.round(strip.top + strip.height - (strip.height - 1) * (level / top));
    for (const { x, width, step } of stretches(geometry, ghost, rank)) {
      const to = Math.min(x + width, geometry.right);
      const at = y(step.level);
      if (at >= strip.top && step.level > 0)
        for (let dot = x; dot < to; dot += 4) pen.fillRect(dot, at, Math.min(2, to - dot), 1);
    }
  }
}

function fill(pen, stack, theme) {
  for (const { part, boxes } of stack) {
    pen.fillStyle = theme.muted;
    pen.globalAlpha = part.tone;
    for (const { x, y, width, height } of boxes) if (height > 0) pen.fillRect(x, y, width, height);
    pen.globalAlpha = 1;
    pen.fillStyle = hatch(pen, part.pattern) ?? theme.muted;
    if (part.pattern)
      for (const { x, y, width, height } of boxes)
        if (height > 0) pen.fillRect(x, y, width, height);
  }
}

function outline(pen, boxes, y, colour, alpha) {
  pen.fillStyle = colour;
  pen.globalAlpha = alpha;
  let before = y(0);
  for (const { x, width, step } of boxes) {
    const now = y(step.level);
    pen.fillRect(x, now, width, 1);
    if (now !== before) pen.fillRect(x, Math.min(before, now), 1, Math.abs(before - now) + 1);
    before = now;
  }
  pen.globalAlpha = 1;
}

/** The first moment of the rank's peak, and its limit as a dashed line. */
function mark(pen, geometry, timeline, rank, y, theme) {
  const steps = timeline.memory[rank];
  const top = peak(timeline, rank);
  const first = steps.find((step) => step.level >= top);
  pen.fillStyle = theme.ink;
  if (first && top > 0) pen.fillRect(Math.round(geometry.x(first.time)) - 1, y(top) - 1, 4, 4);
  const limit = timeline.limits?.[rank];
  if (limit === undefined || limit > ceiling(timeline)) return;
  pen.fillStyle = theme.accent;
  for (let x = geometry.left; x < geometry.right; x += 9)
    pen.fillRect(x, y(limit), Math.min(5, geometry.right - x), 1);
}

/** The most that a rank holds. */
export function peak(timeline, rank) {
  return Math.max(0, ...(timeline.memory[rank] ?? []).map((step) => step.level));
}

/** Peaks at the left of their strips; above the limit in the colour of warnings. */
export function drawPeaks(context, geometry, timeline, theme) {
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const { rank, strip } of geometry.rows.slice(0, timeline.ranks)) {
    const most = peak(timeline, rank);
    const over = most > (timeline.limits?.[rank] ?? Infinity) * (1 + 1e-6);
    const text = memory(most, timeline.memory_unit);
    const y = strip.top + strip.height / 2 + 0.5;
    context.fillStyle = over ? theme.accent : theme.ink;
    context.font = `13px ${theme.font}`;
    context.fillText(text, 2, y);
    if (geometry.narrow) continue;
    const x = 2 + context.measureText(text).width + 5;
    context.font = `10px ${theme.font}`;
    context.fillStyle = over ? theme.accent : theme.muted;
    const word = over ? "over" : "at most";
    if (x + context.measureText(word).width < geometry.left - 4) context.fillText(word, x, y + 1);
  }
  const [limit] = timeline.limits ?? [];
  if (limit === undefined || limit > ceiling(timeline)) return;
  const { strip } = geometry.rows[0];
  const y = strip.top + strip.height - (strip.height - 1) * (limit / ceiling(timeline));
  const words = "this GPU is full";
  context.font = `10px ${theme.font}`;
  context.textAlign = "right";
  const width = context.measureText(words).width + 8;
  context.fillStyle = theme.paper;
  context.globalAlpha = 0.85;
  context.fillRect(geometry.right - width, y - 6, width, 12);
  context.globalAlpha = 1;
  context.fillStyle = theme.accent;
  context.fillText(words, geometry.right - 4, y);
}
