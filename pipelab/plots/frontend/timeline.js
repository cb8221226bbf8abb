// A timeline as Python sends it (see plots/view.py), unpacked for drawing and asking.

/** Float32 numbers out of what a message (DataView), a page (base64 text) or a test (Float32Array) carries. */
export function floats(packed) {
  if (packed instanceof Float32Array) return packed;
  if (typeof packed === "string") return floats(new DataView(Uint8Array.from(atob(packed), (c) => c.charCodeAt(0)).buffer));
  const bytes = packed.buffer.slice(packed.byteOffset, packed.byteOffset + packed.byteLength); // a copy is aligned
  return new Float32Array(bytes);
}

/** A list per rank of what `read` makes of each group of `size` numbers, the first of which is the rank. */
function byRank(numbers, size, ranks, read) {
  const groups = Array.from({ length: ranks }, () => []);
  for (let at = 0; at < numbers.length; at += size) groups[numbers[at]].push(read(numbers, at));
  return groups;
}

// Object literals, not a loop over field names: ten times as fast, and this runs at every move of a slider.
const readBar = (n, i) => ({ rank: n[i], stage: n[i + 1], microbatch: n[i + 2], kind: n[i + 3], start: n[i + 4], end: n[i + 5], part: n[i + 6] });
const readLevel = (n, i) => ({ time: n[i + 1], level: n[i + 2] });

/** The message with `bars` and `memory` as a list of records per rank, in order of time. */
export function unpack(message) {
  const { ranks } = message;
  return { ...message, bars: byRank(floats(message.bars), 7, ranks, readBar), memory: byRank(floats(message.memory), 3, ranks, readLevel) };
}

/** Index of the last record with `record[field] <= time`, or -1. */
function lastUpTo(list, field, time) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][field] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The bars that run on `rank` at `time`: none, one, or the two halves of an overlap. */
export function running(timeline, rank, time) {
  const bars = timeline.bars[rank];
  const at = lastUpTo(bars, "start", time);
  return [at - 1, at].filter((i) => i >= 0 && bars[i].end > time).map((i) => bars[i]);
}

/** Memory held on `rank` at `time`. */
export function held(timeline, rank, time) {
  const steps = timeline.memory[rank];
  const at = lastUpTo(steps, "time", time);
  return at < 0 ? 0 : steps[at].level;
}

/** The idle interval [from, to] of `rank` around `time`; to the end of the picture where nothing follows. */
export function gap(timeline, rank, time) {
  const bars = timeline.bars[rank];
  const at = lastUpTo(bars, "start", time);
  return [at < 0 ? 0 : bars[at].end, at + 1 < bars.length ? bars[at + 1].start : timeline.end];
}

/** "2F0": the action in torch's notation. */
export function action(timeline, bar) {
  return `${bar.stage}${timeline.looks[bar.kind].letter}${bar.microbatch}`;
}
