// Why ranks stand idle and what decided the makespan, for a prediction with other costs, without
// the kernel. Equal to timeline/idle.py, timeline/critical_path.py and widgets/causes.py:
// tests/widgets/test_simulate.py holds them to one another.
import { longestPath, simulate } from "./simulate.js";
import { action } from "./timeline.js";

/** Of the makespan: less is rounding. */
const TINY = 1e-9;

/**
 * All idle time by cause, as Python sends it: {source, looks, totals, makespan, intervals}.
 * `looks`: Python's of the causes. Message and settings are those of `retime`.
 */
export function causesOf(message, settings, looks) {
  const timed = simulate(message, settings);
  const index = new Map(looks.map(({ cause }, i) => [cause, i]));
  const totals = {};
  for (const { cause } of looks) totals[cause] = new Array(message.ranks).fill(0);
  const rows = idleIntervals(timed, message.looks).map(({ rank, start, end, cause }) => {
    totals[cause][rank] += end - start;
    return [rank, start, end, index.get(cause)];
  });
  const { source } = message;
  const intervals = Float32Array.from(rows.flat());
  return { source, looks, totals, makespan: timed.makespan, intervals };
}

/** The chain of actions that decided the makespan, as Python sends it: {source, steps}. */
export function criticalPath(message, settings) {
  const { offsets, rank, needs, second, started, ended } = simulate(message, settings);
  const path = [];
  let row = ended.reduce((last, time, i) => (time > ended[last] ? i : last), 0);
  while (row >= 0) {
    path.push(row);
    const head = row - second[row]; // an overlapped pair waits as one
    const first = head === offsets[rank[head]];
    const source = latest(second[head + 1] ? [head, head + 1] : [head], needs, ended);
    if (source >= 0 && (first || started[head] > ended[head - 1])) row = source;
    else row = first ? -1 : head - 1;
  }
  const steps = path.reverse().flatMap((i) => [rank[i], started[i], ended[i]]);
  return { source: message.source, steps: Float32Array.from(steps) };
}

/**
 * Why a rank stands idle at a moment, as Python sends it; {} where it does not. `words`: Python's
 * looks and sentences.
 */
export function explainGap(message, settings, { looks, sentences }, rank, moment) {
  const timed = simulate(message, settings);
  const found = idleIntervals(timed, message.looks).find(
    (idle) => idle.rank === rank && idle.start <= moment && moment < idle.end,
  );
  if (!found) return {};
  const { start, end, cause, endedBy, filler } = found;
  const source = endedBy < 0 ? -1 : lastInputs(timed, timed.ended)[endedBy];
  const { stage, microbatch, kind } = timed;
  const name = (row) =>
    action(message, { stage: stage[row], microbatch: microbatch[row], kind: kind[row] });
  const values = {
    rank: () => rank,
    action: () => name(endedBy),
    wanted: () => name(source),
    where: () => timed.rank[source],
    filler: () => name(filler),
  };
  const told = (template) => template.replace(/\{(\w+)\}/g, (_, key) => values[key]());
  const look = looks.find((known) => known.cause === cause);
  const takes = filler >= 0 && message.looks[kind[filler]].sends === "down";
  const choice = filler < 0 ? "forced" : takes ? "choice_of_forward" : "choice";
  return {
    source: message.source,
    rank,
    start,
    end,
    cause,
    title: look.title,
    why: told(look.why),
    ended: told(endedBy < 0 ? sentences.never_ended : sentences.ended),
    choice: told(endedBy < 0 ? sentences.nothing_left : sentences[choice]),
    remedy: "", // the kernel tries moves in its simulator
  };
}

/** Of the rows that these rows need, the one that ended last; -1 where they need none. */
function latest(rows, needs, ended) {
  let source = -1;
  for (const row of rows) {
    const need = needs[row];
    if (need >= 0 && (source < 0 || ended[need] > ended[source])) source = need;
  }
  return source;
}

/** The row on another rank for which each row waits longest, or -1; a pair waits as one. */
function lastInputs({ count, rank, needs, second }, ended) {
  const source = new Int32Array(count).fill(-1);
  for (let row = 0; row < count; row += 1) {
    const need = needs[row];
    const head = row - second[row];
    if (need < 0 || rank[need] === rank[row]) continue;
    if (source[head] < 0 || ended[need] > ended[source[head]]) source[head] = need;
  }
  return source;
}

/**
 * Idle intervals in order of rank and time: {rank, start, end, cause, endedBy, filler}. endedBy:
 * the row whose start ended it; filler: a later row of the rank that could have begun in it; or -1.
 */
function idleIntervals(timed, looks) {
  const { offsets, kind, second, started, ended, makespan } = timed;
  const out = [];
  const tiny = TINY * makespan;
  const source = lastInputs(timed, ended);
  const latency = shortestTransfer(timed);
  const expected = balancedWaiting(timed, looks, latency);
  const ready = readyTimes(timed, looks, latency);
  const later = readyLater(timed, looks, ready);
  const add = (rank, start, end, cause, endedBy) => {
    if (end <= start) return;
    const couldRun = endedBy < 0 ? [] : later.map((column) => column[endedBy]);
    const filler = couldRun.find((row) => row >= 0 && ready[row] < end - tiny) ?? -1;
    out.push({ rank, start, end, cause, endedBy, filler });
  };
  for (let rank = 0; rank + 1 < offsets.length; rank += 1) {
    const [low, high] = offsets.subarray(rank, rank + 2);
    add(rank, 0, started[low], "warm-up", low);
    for (let row = low + 1; row < high; row += 1) {
      if (second[row]) continue;
      const asked = ended[row - 1];
      const from = source[row];
      const handed = from < 0 ? asked : Math.min(Math.max(ended[from], asked), started[row]);
      let split = Math.min(asked + expected[row], handed);
      if (split - asked <= tiny) split = asked;
      else if (handed - split <= tiny) split = handed;
      const down = from >= 0 && looks[kind[from]].sends === "down";
      add(rank, asked, split, down ? "upstream-forward" : "downstream-backward", row);
      add(rank, split, handed, "imbalance", row);
      add(rank, handed, started[row], "transfer", row);
    }
    add(rank, ended[high - 1], makespan, "cool-down", -1);
  }
  return out;
}

/** The shortest time from the end of an action to the start of its user on another rank. */
function shortestTransfer({ count, rank, needs, started, ended }) {
  let shortest = Infinity;
  for (let row = 0; row < count; row += 1) {
    const need = needs[row];
    if (need < 0 || rank[need] === rank[row]) continue;
    shortest = Math.min(shortest, started[row] - ended[need]);
  }
  return shortest === Infinity ? 0 : shortest;
}

/**
 * How long each row would wait for another rank to send if all stages cost the mean; infinite where
 * they do already.
 */
function balancedWaiting(timed, looks, latency) {
  const { count, stage, kind, second, duration } = timed;
  const group = (row) => (second[row + 1] ? looks.length : kind[row]);
  const sums = Array.from({ length: looks.length + 1 }, () => new Map());
  for (let row = 0; row < count; row += 1) {
    if (second[row]) continue;
    const sum = sums[group(row)];
    const [total, actions] = sum.get(stage[row]) ?? [0, 0];
    sum.set(stage[row], [total + duration[row], actions + 1]);
  }
  const means = sums.map((sum) => {
    const ofStages = [...sum.values()].map(([total, actions]) => total / actions);
    return ofStages.reduce((total, mean) => total + mean, 0) / ofStages.length;
  });
  const mean = Float64Array.from(duration, (_, row) => (second[row] ? 0 : means[group(row)]));
  const unequal = mean.some((each, row) => Math.abs(duration[row] - each) > TINY * timed.makespan);
  if (!unequal) return new Float64Array(count).fill(Infinity);
  const { started, ended } = longestPath(timed, mean, latency);
  const source = lastInputs(timed, ended);
  return mean.map((_, row) => {
    if (source[row] < 0 || row === 0) return 0;
    return Math.max(Math.min(ended[source[row]], started[row]) - ended[row - 1], 0);
  });
}

/** Whether a row is for one micro-batch (an optimizer step has no cost in the lab). */
const ofMicrobatch = ({ costs, kind }, looks, row) => looks[kind[row]].cost in costs;

/**
 * When all inputs of each row had arrived; infinite for the second of a pair, which its first
 * stands for, and for a row of no micro-batch.
 */
function readyTimes(timed, looks, latency) {
  const { count, rank, stage, microbatch, kind, needs, second, ended } = timed;
  const numbers = microbatch.reduce((most, number) => Math.max(most, number), 0) + 1;
  const ends = looks.map(() => []); // by kind: when it ended for a stage and a micro-batch
  for (let row = 0; row < count; row += 1)
    ends[kind[row]][stage[row] * numbers + microbatch[row]] = ended[row];
  const ready = new Float64Array(count).fill(-Infinity);
  for (let row = 0; row < count; row += 1) {
    const head = row - second[row];
    const need = needs[row];
    const key = stage[row] * numbers + microbatch[row];
    let time = ready[head];
    if (need >= 0) time = Math.max(time, ended[need] + (rank[need] === rank[row] ? 0 : latency));
    for (const used of looks[kind[row]].needs) time = Math.max(time, ends[used][key] ?? -Infinity);
    ready[head] = time;
    if (second[row] || !ofMicrobatch(timed, looks, row)) ready[row] = Infinity;
  }
  return ready;
}

/**
 * The later row of its rank that is ready first, for each row: of those without a forward, and of
 * those with one, which take memory. Of equals the earlier one; -1 where there is none.
 */
function readyLater(timed, looks, ready) {
  const { offsets, count, kind, second } = timed;
  const later = [new Int32Array(count), new Int32Array(count)];
  for (let rank = 0; rank + 1 < offsets.length; rank += 1) {
    const best = [-1, -1];
    for (let row = offsets[rank + 1] - 1; row >= offsets[rank]; row -= 1) {
      if (!ofMicrobatch(timed, looks, row)) best.fill(-1); // none moves over an optimizer step
      later.forEach((column, i) => (column[row] = best[i]));
      if (ready[row] === Infinity) continue;
      const i = second[row + 1] || looks[kind[row]].sends === "down" ? 1 : 0;
      if (best[i] < 0 || ready[row] <= ready[best[i]]) best[i] = row;
    }
  }
  return later;
}
