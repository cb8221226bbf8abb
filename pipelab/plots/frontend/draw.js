// Draws timelines. Every function takes the geometry of layout.js and draws one thing: boxes with a
// pen (a canvas's context, or a Raster, which is faster for thousands), words with a context.
import { edge, hatch, inkOn, shadeOf } from "./colour.js";
import { ticks, time } from "./format.js";
import { second, severalOf } from "./timeline.js";

// a bar's part of its lane: all of it, or one half of an overlap (upper forward, lower backward)
const FULL = 0;
const LOWER = 2;
const LABEL_HEIGHT = 11;

/**
 * What can be written on bars, the longest first: the stage too where a rank has several, kind and
 * micro-batch, or the micro-batch alone. A digit of the font takes 7 pixels, of the small one 5.5.
 */
const FORMS = [
  { size: 11, digit: 7, parts: ["stage", "letter"] },
  { size: 11, digit: 7, parts: ["letter"] },
  { size: 11, digit: 7, parts: [] },
  { size: 9, digit: 5.5, parts: [] },
];

/** The longest form that fits on a bar like this one as narrow as `narrowest`, or undefined. */
function formOf(timeline, { microbatch }, narrowest) {
  const numbered = microbatch >= 0;
  const longest = numbered ? String(timeline.microbatches - 1).length : 0;
  return FORMS.find(({ digit, parts }) => {
    if (parts.includes("stage") && !(numbered && severalOf(timeline))) return false;
    const stage = parts.includes("stage") ? String(timeline.stages - 1).length + 0.7 : 0;
    const letter = parts.includes("letter") || !numbered ? 1.2 : 0;
    return digit * (longest + stage + letter) + 3 <= narrowest;
  });
}

/**
 * Of each rank, kind -> the form that fits on all its bars there. Kinds with micro-batches share
 * one; a kind with a bar that nothing fits on has none, and the others do not heed it.
 */
function formsOf(geometry, index, timeline) {
  return timeline.bars.map((bars) => {
    const narrowest = new Map();
    for (const bar of bars) {
      const { width, height } = box(geometry, index, bar);
      const room = height < LABEL_HEIGHT ? 0 : width;
      if (!(narrowest.get(bar.kind)?.room <= room)) narrowest.set(bar.kind, { bar, room });
    }
    const kinds = [...narrowest.values()].filter(({ bar, room }) => formOf(timeline, bar, room));
    const numbered = kinds.filter(({ bar }) => bar.microbatch >= 0);
    const least = Math.min(...numbered.map(({ room }) => room));
    return new Map(
      kinds.map(({ bar, room }) => [
        bar.kind,
        formOf(timeline, bar, bar.microbatch < 0 ? room : least),
      ]),
    );
  });
}

function label(timeline, bar, { parts }) {
  const { letter } = timeline.looks[bar.kind];
  if (bar.microbatch < 0) return letter;
  const stage = parts.includes("stage") ? `${bar.stage}·` : "";
  return `${stage}${parts.includes("letter") ? letter : ""}${bar.microbatch}`;
}

/** The idle background of every lane: time on a rank is there whether it is used or not. */
export function drawTracks(pen, geometry, theme) {
  pen.fillStyle = theme.ink;
  pen.globalAlpha = theme.dark ? 0.13 : 0.07;
  for (const row of geometry.rows) {
    for (const lane of row.lanes)
      pen.fillRect(geometry.left, lane.top, geometry.right - geometry.left, lane.height);
  }
  pen.globalAlpha = 1;
}

/** A bar's box in its lane, in whole pixels: sharp, and quick to fill. */
function box(geometry, index, bar) {
  const lane = geometry.rows[bar.rank].lanes[index];
  const x = Math.round(geometry.x(bar.start));
  const height = bar.part === FULL ? lane.height : lane.height / 2;
  const y = bar.part === LOWER ? lane.top + height : lane.top;
  return { x, y, width: Math.max(Math.round(geometry.x(bar.end)) - x, 1), height };
}

/**
 * Bars of one colour: `fill`, `pattern` (a letter or nothing), and a list of {bar, x, y, width,
 * height}.
 */
function* groups(geometry, index, timeline, theme, keep) {
  // a pen changes its colour once per group: that costs more than filling a box
  const byColour = new Map();
  for (const bar of timeline.bars.flat()) {
    if (!keep(bar)) continue;
    const key = bar.kind * 65536 + bar.microbatch;
    if (!byColour.has(key)) byColour.set(key, []);
    byColour.get(key).push({ bar, ...box(geometry, index, bar) });
  }
  for (const boxes of byColour.values()) {
    const { bar } = boxes[0];
    yield { boxes, fill: shadeOf(timeline, bar, theme), pattern: timeline.looks[bar.kind].pattern };
  }
}

const all = () => true;

/**
 * The bars of one timeline in its lane, or those that `keep` wants. A light edge below tells the
 * second stage or copy of a rank apart.
 */
export function drawBars(pen, geometry, index, timeline, theme, keep = all) {
  for (const { boxes, fill, pattern } of groups(geometry, index, timeline, theme, keep)) {
    pen.fillStyle = fill;
    for (const { x, y, width, height } of boxes) pen.fillRect(x, y, width, height);
    pen.fillStyle = edge(fill);
    for (const { x, y, width, height } of boxes) {
      if (width < 3) continue;
      pen.fillRect(x, y, width, 1);
      pen.fillRect(x, y + height - 1, width, 1);
      pen.fillRect(x, y, 1, height);
      pen.fillRect(x + width - 1, y, 1, height);
    }
    const hatching = hatch(pen, pattern);
    if (hatching) {
      pen.fillStyle = hatching;
      for (const { x, y, width, height } of boxes) pen.fillRect(x, y, width, height);
    }
    pen.fillStyle = "#ffffff";
    for (const { bar, x, y, width, height } of boxes)
      if (width > 3 && height > 8 && second(timeline, bar))
        pen.fillRect(x + 1, y + height - 4, width - 2, 3);
  }
}

/** What is written on the bars of one kind in a lane, where it fits on all of them. */
export function drawLabels(context, geometry, index, timeline, theme, keep = all) {
  context.textAlign = "center";
  context.textBaseline = "middle";
  const forms = formsOf(geometry, index, timeline);
  for (const { boxes, fill, pattern } of groups(geometry, index, timeline, theme, keep)) {
    for (const { bar, x, y, width, height } of boxes) {
      const form = forms[bar.rank].get(bar.kind);
      if (!form) continue;
      const text = label(timeline, bar, form);
      context.font = `${form.size}px ${theme.font}`;
      if (pattern) {
        // hatching behind a number makes it unreadable
        const room = Math.min(text.length * form.digit + 2, width - 2);
        context.fillStyle = fill;
        context.fillRect(x + (width - room) / 2, y + 2, room, height - 4);
      }
      context.fillStyle = inkOn(fill);
      context.fillText(text, x + width / 2, y + height / 2 + 0.5);
    }
  }
}

/** Names at the left: rank and lanes. */
export function drawNames(context, geometry, timelines, theme) {
  const small = `10px ${theme.font}`;
  context.textBaseline = "middle";
  for (const row of geometry.rows) {
    const { top, height } = row.lanes.at(-1);
    const middle = geometry.narrow ? top + height / 2 : (row.lanes[0].top + top + height) / 2;
    context.textAlign = "left";
    context.font = `600 12px ${theme.font}`;
    context.fillStyle = theme.ink;
    context.fillText(geometry.narrow ? `${row.rank}` : `rank ${row.rank}`, 2, middle);
    context.font = small;
    context.fillStyle = theme.muted;
    if (!geometry.narrow) {
      context.textAlign = "right";
      if (timelines.length > 1) {
        row.lanes.forEach((lane, i) =>
          context.fillText(
            timelines[i].source,
            geometry.left - 8,
            lane.top + lane.height / 2 + 0.5,
          ),
        );
      }
    }
  }
}

function marksOf(geometry, end) {
  return ticks(end, (geometry.right - geometry.left) / 70);
}

/** Faint lines through the lanes, at the marks of the time axis. */
export function drawGrid(pen, geometry, end, theme) {
  pen.fillStyle = theme.ink;
  pen.globalAlpha = 0.1;
  const { top } = geometry.rows[0];
  for (const mark of marksOf(geometry, end))
    pen.fillRect(Math.round(geometry.x(mark)), top, 1, geometry.axis - top);
  pen.globalAlpha = 1;
}

/** The time axis under the last rank. */
export function drawAxis(context, geometry, end, unit, theme) {
  context.font = `11px ${theme.font}`;
  context.textBaseline = "top";
  context.textAlign = "center";
  context.fillStyle = theme.muted;
  for (const mark of marksOf(geometry, end)) {
    const x = Math.round(geometry.x(mark));
    context.fillRect(x, geometry.axis - 2, 1, 5);
    context.fillText(time(mark, ""), x, geometry.axis + 6);
  }
  context.textAlign = "left";
  context.fillText(unit || "time", geometry.right + 16, geometry.axis + 6);
}

/**
 * The playhead over everything: what has not happened yet is veiled, and each memory strip is
 * marked at its level.
 */
export function drawPlayhead(context, geometry, moment, end, theme) {
  const x = geometry.x(moment);
  const bottom = geometry.axis;
  if (moment < end) {
    context.globalAlpha = 0.62;
    context.fillStyle = theme.paper;
    for (const row of geometry.rows)
      context.fillRect(x, row.top, geometry.right - x + 1, row.bottom - row.top);
    context.globalAlpha = 1;
  }
  context.fillStyle = theme.accent;
  context.fillRect(Math.round(x) - 1, 0, 2, bottom);
  context.beginPath();
  context.moveTo(x - 6, bottom + 5);
  context.lineTo(x + 6, bottom + 5);
  context.lineTo(x, bottom - 4);
  context.fill();
}

/** Let all lanes step back. */
export function dim(context, geometry, theme) {
  context.fillStyle = theme.paper;
  context.globalAlpha = 0.7;
  for (const row of geometry.rows) {
    for (const lane of row.lanes)
      context.fillRect(geometry.left, lane.top, geometry.right - geometry.left, lane.height);
  }
  context.globalAlpha = 1;
}

/** One micro-batch's way through the ranks: everything else steps back. */
export function drawJourney(context, geometry, timelines, microbatch, theme) {
  dim(context, geometry, theme);
  const keep = (bar) => bar.microbatch === microbatch;
  timelines.forEach((timeline, index) => {
    drawBars(context, geometry, index, timeline, theme, keep);
    drawLabels(context, geometry, index, timeline, theme, keep);
  });
}
