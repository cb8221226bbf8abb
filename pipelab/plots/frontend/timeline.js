// A timeline as Python sends it (see plots/view.py), unpacked for drawing and asking.

/**
 * Float32 numbers out of what a message (DataView), a page (base64 text) or a test (Float32Array)
 * carries.
 */
export function floats(packed) {
  return packed instanceof Float32Array ? packed : new Float32Array(bytesOf(packed));
}

/** The same for Int32 numbers. */
export function integers(packed) {
  return packed instanceof Int32Array ? packed : new Int32Array(bytesOf(packed));
}

function bytesOf(packed) {
  if (typeof packed === "string") {
    const characters = atob(packed);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = characters.charCodeAt(i);
    return bytes.buffer;
  }
  // a copy is aligned
  return packed.buffer.slice(packed.byteOffset, packed.byteOffset + packed.byteLength);
}

/**
 * The message with `bars` and `memory` as a list of records per rank, in order of time. A level has
 * `parts`, in the order of the message's, where there is more than one.
 */
export function unpack(message) {
  const numbers = floats(message.bars);
  const held = floats(message.memory);
  const versions = message.versions && integers(message.versions);
  const size = message.parts.length;
  const bars = Array.from({ length: message.ranks }, () => []);
  const memory = Array.from({ length: message.ranks }, () => []);
  // Object literals, not a loop over field names: ten times as fast, and this runs at every move of
  // a slider.
  for (let n = 0, i = 0, at = 0; n < numbers.length; n += 7, i += 1) {
    const rank = numbers[n];
    const start = numbers[n + 4];
    const end = numbers[n + 5];
    bars[rank].push({
      rank,
      stage: numbers[n + 1],
      microbatch: numbers[n + 2],
      kind: numbers[n + 3],
      start,
      end,
      part: numbers[n + 6],
    });
    if (versions) bars[rank].at(-1).version = versions[i];
    for (const time of [start, end]) {
      memory[rank].push(
        size === 1 ? { time, level: held[at] } : several(time, held.subarray(at, at + size)),
      );
      at += size;
    }
  }
  return { ...message, bars, memory };
}

function several(time, parts) {
  return { time, level: parts.reduce((sum, part) => sum + part, 0), parts };
}

/** Index of the last record with `record[field] <= time`, or -1. */
export function lastUpTo(list, field, time) {
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

/** Memory held on `rank` at `time`: {level, parts}. */
export function held(timeline, rank, time) {
  const steps = timeline.memory[rank];
  const at = lastUpTo(steps, "time", time);
  return at < 0 ? { level: 0 } : steps[at];
}

/**
 * The idle interval [from, to] of `rank` around `time`; to the end of the picture where nothing
 * follows.
 */
export function gap(timeline, rank, time) {
  const bars = timeline.bars[rank];
  const at = lastUpTo(bars, "start", time);
  return [at < 0 ? 0 : bars[at].end, at + 1 < bars.length ? bars[at + 1].start : timeline.end];
}

const homes = new WeakMap();

/** rank -> its stages in order; and micro-batch -> the rank of its stage 0, which tells copies. */
function homesOf(timeline) {
  if (!homes.has(timeline)) {
    const stages = timeline.bars.map((bars) => [...new Set(bars.map(({ stage }) => stage))]);
    const entry = new Map();
    for (const { rank, stage, microbatch } of timeline.bars.flat())
      if (stage === 0) entry.set(microbatch, rank);
    const entries = [...new Set(entry.values())].sort((a, b) => a - b);
    homes.set(timeline, {
      stages: stages.map((list) => list.sort((a, b) => a - b)),
      entry,
      entries,
    });
  }
  return homes.get(timeline);
}

/** Whether ranks have several stages, or stages of two copies of the model. */
export function severalOf(timeline) {
  return homesOf(timeline).stages.some((list) => list.length > 1);
}

/** What `second` marks. */
export function secondName(timeline) {
  const copies = homesOf(timeline).entries.length > 1;
  return copies ? "the other direction" : "second stage of its rank";
}

/**
 * Whether a bar is told apart from others of its rank: it belongs to the second copy of the model,
 * which runs in the other direction, or to an odd one of the rank's stages.
 */
export function second(timeline, bar) {
  const { stages, entry, entries } = homesOf(timeline);
  if (entries.length > 1) return entry.get(bar.microbatch) !== entries[0];
  return stages[bar.rank].indexOf(bar.stage) % 2 === 1;
}

/**
 * "2F0": the action in torch's notation, with the letter of its kind; "2U" for one without a
 * micro-batch (-1).
 */
export function action(timeline, bar) {
  const number = bar.microbatch < 0 ? "" : bar.microbatch;
  return `${bar.stage}${timeline.looks[bar.kind].letter}${number}`;
}
