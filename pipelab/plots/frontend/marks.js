// What is drawn over a timeline to explain it: causes of idle time, the critical path, a chosen
// gap, the lines of an action.
import { edge, hatch, inkOn, shadeOf } from "./colour.js";
import { dim, drawBars, drawLabels } from "./draw.js";
import { ceiling } from "./strips.js";
import { floats, held } from "./timeline.js";
import { relations, underWay } from "./relations.js";

/** Idle intervals as Python sends them, as records. */
export function intervals(causes) {
  const numbers = floats(causes.intervals);
  const list = [];
  for (let i = 0; i < numbers.length; i += 4) {
    list.push({
      rank: numbers[i],
      start: numbers[i + 1],
      end: numbers[i + 2],
      look: causes.looks[numbers[i + 3]],
    });
  }
  return list;
}

/** The lane that a source's timeline has, or -1. */
function laneOf(timelines, source) {
  return timelines.findIndex((timeline) => timeline.source === source);
}

/** Every idle interval in the colour and pattern of its cause, in the lane of its timeline. */
export function drawCauses(pen, geometry, timelines, causes, theme) {
  const index = laneOf(timelines, causes.source);
  if (index < 0) return;
  for (const { rank, start, end, look } of intervals(causes)) {
    if (!geometry.rows[rank]) continue; // of a picture that has gone
    const lane = geometry.rows[rank].lanes[index];
    const x = Math.round(geometry.x(start));
    const width = Math.round(geometry.x(end)) - x;
    if (width < 1) continue;
    pen.fillStyle = theme.dark ? look.dark : look.colour;
    pen.fillRect(x, lane.top, width, lane.height);
    const hatching = hatch(pen, look.pattern);
    if (!hatching) continue;
    pen.fillStyle = hatching;
    pen.fillRect(x, lane.top, width, lane.height);
  }
}

/**
 * The chain of actions that decided the makespan: all else steps back, and the chain is joined
 * where it changes ranks.
 */
export function drawPath(context, geometry, timelines, path, theme) {
  const index = laneOf(timelines, path.source);
  if (index < 0) return;
  const numbers = floats(path.steps);
  const critical = new Set();
  for (let i = 0; i < numbers.length; i += 3) critical.add(`${numbers[i]} ${numbers[i + 1]}`);
  const keep = ({ rank, start }) => critical.has(`${rank} ${start}`);
  dim(context, geometry, theme);
  drawBars(context, geometry, index, timelines[index], theme, keep);
  drawLabels(context, geometry, index, timelines[index], theme, keep);
  context.strokeStyle = theme.ink;
  context.lineWidth = 2;
  let before = null;
  for (let i = 0; i < numbers.length; i += 3) {
    if (!geometry.rows[numbers[i]]) return;
    const lane = geometry.rows[numbers[i]].lanes[index];
    const [x, to] = [geometry.x(numbers[i + 1]), geometry.x(numbers[i + 2])];
    context.strokeRect(x + 1, lane.top, Math.max(to - x - 2, 1), lane.height);
    const middle = lane.top + lane.height / 2;
    if (before && before.rank !== numbers[i]) {
      context.beginPath();
      context.moveTo(before.x, before.y);
      context.lineTo(x, middle);
      context.stroke();
    }
    before = { rank: numbers[i], x: to, y: middle };
  }
  context.lineWidth = 1;
}

/** A frame round the gap that is being explained. */
export function drawGap(context, geometry, timelines, gap, theme) {
  const index = laneOf(timelines, gap.source);
  if (index < 0 || !geometry.rows[gap.rank]) return;
  const lane = geometry.rows[gap.rank].lanes[index];
  const [x, to] = [geometry.x(gap.start), geometry.x(gap.end)];
  context.strokeStyle = theme.accent;
  context.lineWidth = 2;
  context.setLineDash([5, 3]);
  context.strokeRect(x + 1, lane.top + 1, Math.max(to - x - 2, 2), lane.height - 2);
  context.setLineDash([]);
  context.lineWidth = 1;
}

function middleOf(geometry, index, bar) {
  const lane = geometry.rows[bar.rank].lanes[index];
  return lane.top + lane.height / 2;
}

function line(context, [x, y], [x2, y2], dashed) {
  context.setLineDash(dashed ? [4, 3] : []);
  context.beginPath();
  context.moveTo(x, y);
  const bend = Math.max(6, Math.abs(x2 - x) / 2);
  context.bezierCurveTo(x + bend, y, x2 - bend, y2, x2, y2);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.arc(x2, y2, 3, 0, 7);
  context.fill();
}

/** Lines from what an action needs (solid) and to what it feeds (dashed). */
export function drawRelations(context, geometry, timelines, index, bar, theme) {
  const { needs, feeds } = relations(timelines[index], bar);
  context.strokeStyle = context.fillStyle = theme.ink;
  context.lineWidth = 1.5;
  const at = (which, time) => [geometry.x(time), middleOf(geometry, index, which)];
  for (const other of needs) line(context, at(other, other.end), at(bar, bar.start), false);
  for (const other of feeds) line(context, at(bar, bar.end), at(other, other.start), true);
  context.lineWidth = 1;
}

/**
 * Activations and gradients on their way, as dots that ride down and up the playhead with their
 * micro-batch.
 */
export function drawFlights(context, geometry, index, timeline, moment, theme) {
  const x = geometry.x(moment);
  const radius = geometry.rows.length > 8 ? 5 : 8;
  context.font = `600 9px ${theme.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { from, to, done } of underWay(timeline, moment)) {
    const [a, b] = [middleOf(geometry, index, from), middleOf(geometry, index, to)];
    const fill = shadeOf(timeline, from, theme);
    const y = a + (b - a) * done;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = fill;
    context.fill();
    context.strokeStyle = edge(fill);
    context.stroke();
    if (radius < 8) continue;
    context.fillStyle = inkOn(fill);
    context.fillText(from.microbatch, x, y + 0.5);
  }
}

/** What a forward keeps, as it falls from its bar onto the pile of its rank. */
export function drawDrops(context, geometry, index, timeline, moment, theme) {
  const fall = 0.5 * timeline.step;
  const x = geometry.x(moment);
  for (const bars of timeline.bars) {
    for (const bar of bars) {
      if (bar.end > moment) break;
      if (timeline.looks[bar.kind].sends !== "down" || bar.end <= moment - fall) continue;
      const { lanes, strip } = geometry.rows[bar.rank];
      const from = lanes[index].top + lanes[index].height;
      const level = held(timeline, bar.rank, moment).level / ceiling(timeline);
      const to = strip.top + strip.height * (1 - level);
      const y = from + (to - from) * ((moment - bar.end) / fall) ** 2;
      context.fillStyle = shadeOf(timeline, bar, theme);
      context.fillRect(x - 7, y - 2, 6, 5);
    }
  }
}

/** Which rank the keyboard stands on: a ring where the playhead crosses its lane. */
export function drawCursor(context, geometry, rank, moment, theme) {
  const row = geometry.rows[rank];
  if (!row) return;
  const lane = row.lanes.at(-1);
  context.strokeStyle = theme.accent;
  context.lineWidth = 2;
  context.strokeRect(geometry.x(moment) - 6, lane.top - 1, 12, lane.height + 2);
  context.lineWidth = 1;
}
