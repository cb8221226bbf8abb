// One object, one identity: when the order changes, a bar slides from where it was to where it is.
// An action is its kind, stage and micro-batch on a rank.
export const SLIDE = 250; // milliseconds
const MOST_BARS = 2000; // bars: more would not be drawn at sixty frames a second

/** Whether the way from one list of timelines to another can be shown. */
export function canSlide(before, now) {
  if (before.length !== 1 || now.length !== 1) return false;
  const [[from], [to]] = [before, now];
  const same = ["ranks", "unit", "source", "memory_unit"].every((key) => from[key] === to[key]);
  const bars = to.bars.reduce((sum, list) => sum + list.length, 0);
  return same && from.parts.length === to.parts.length && bars <= MOST_BARS;
}

/** Whether two lists of timelines look the same: the kernel's answer to what is already shown. */
export function alike(before, now) {
  const equal = (a, b) => Math.abs(a - b) <= 1e-6 * Math.abs(b);
  const sameBar = (a, b) =>
    a !== undefined &&
    identity(a) === identity(b) &&
    equal(a.start, b.start) &&
    equal(a.end, b.end);
  const sameBars = (a, b) => a.length === b.length && b.every((bar, i) => sameBar(a[i], bar));
  return (
    now.length > 0 &&
    before.length === now.length &&
    now.every(
      (timeline, i) =>
        timeline === before[i] ||
        (timeline.source === before[i].source &&
          timeline.memory_peak === before[i].memory_peak &&
          timeline.ranks === before[i].ranks &&
          timeline.bars.every((bars, rank) => sameBars(before[i].bars[rank], bars))),
    )
  );
}

/** Starts quickly and comes to rest: 0 to 1. */
export function eased(share) {
  return 1 - (1 - Math.min(1, Math.max(0, share))) ** 3;
}

const blend = (a, b, share) => a + (b - a) * share;
const identity = ({ rank, kind, stage, microbatch }) => `${rank} ${kind} ${stage} ${microbatch}`;

/** share -> the timeline on its way from one to the other; new bars are where they will be. */
export function way(from, to) {
  const places = new Map(from.bars.flat().map((bar) => [identity(bar), bar]));
  const origins = to.bars.map((list) => list.map((bar) => places.get(identity(bar)) ?? bar));
  return (share) => ({
    ...to,
    end: blend(from.end, to.end, share),
    bars: to.bars.map((list, rank) =>
      list.map((bar, i) => ({
        ...bar,
        start: blend(origins[rank][i].start, bar.start, share),
        end: blend(origins[rank][i].end, bar.end, share),
      })),
    ),
    memory: to.memory.map((steps, rank) => between(from.memory[rank], steps, share)),
  });
}

/** The steps of a memory strip on the way from one to another: levels at every time of either. */
export function between(before, after, share) {
  const steps = [];
  let [i, j, low, high] = [0, 0, null, null];
  const parts = (step, at) => step?.parts?.[at] ?? 0;
  while (i < before.length || j < after.length) {
    const time = Math.min(before[i]?.time ?? Infinity, after[j]?.time ?? Infinity);
    while (i < before.length && before[i].time === time) low = before[i++];
    while (j < after.length && after[j].time === time) high = after[j++];
    const step = { time, level: blend(low?.level ?? 0, high?.level ?? 0, share) };
    const several = low?.parts ?? high?.parts;
    if (several)
      step.parts = Array.from(several, (_, at) => blend(parts(low, at), parts(high, at), share));
    steps.push(step);
  }
  return steps;
}
