// When each action runs with other costs, without the kernel. Costs do not change the order of a
// schedule, unless its catalogue entry says so (`from_costs`), so the order stands in any
// prediction that Python sent. Equal to widgets/settings.py, schedule/longest_path.py and
// timeline/metrics.py: tests/widgets/test_simulate.py holds them to one another.
import { floats, integers } from "./timeline.js";

/** The settings that change times alone. A change of any other needs another order or memory. */
export const COSTS = ["forward", "input_grad", "weight_grad", "latency", "overhead", "stage_costs"];

/** With hold="batch": what one device alone takes for a batch. */
const WHOLE = 100;
const ROUNDING = 1e-9;
/** The part of the second action of an overlapped pair, which is drawn below the first. */
const SECOND = 2;
const orders = new WeakMap();

/**
 * The order of a prediction, as columns over its rows. `needs` is the row whose result a row needs
 * from another stage, or -1; `second` marks the second row of an overlapped pair; rank r has the
 * rows from `offsets[r]` to before `offsets[r + 1]`. `bars`: as the message has them.
 */
export function orderOf(message) {
  if (orders.has(message)) return orders.get(message);
  const bars = floats(message.bars);
  const count = bars.length / 7;
  const column = (at) => {
    const values = new Int32Array(count);
    for (let row = 0; row < count; row += 1) values[row] = bars[7 * row + at];
    return values;
  };
  const rank = column(0);
  const offsets = new Int32Array(message.ranks + 1);
  for (let row = 0; row < count; row += 1) offsets[rank[row] + 1] = row + 1;
  const order = {
    bars,
    count,
    offsets,
    rank,
    stage: column(1),
    microbatch: column(2),
    kind: column(3),
    second: column(6).map((part) => part === SECOND),
    needs: integers(message.needs),
  };
  orders.set(message, order);
  return order;
}

/** What each action costs, by the name of the cost and the stage. */
function costsPerStage(settings, stages) {
  const { forward, input_grad, weight_grad, overhead, recompute } = settings;
  const scale = Array.from({ length: stages }, (_, stage) => settings.stage_costs[stage] ?? 1);
  let share = 1;
  if (settings.hold === "batch") {
    const mean = scale.reduce((sum, factor) => sum + factor, 0) / stages;
    const whole = forward + input_grad + weight_grad;
    share = WHOLE / (whole * mean * stages * settings.microbatches);
  }
  const each = (value) => scale.map((factor) => value * share * factor + overhead);
  const costs = {
    forward: each(forward),
    backward: each(input_grad + weight_grad),
    input_grad: each(input_grad),
    weight_grad: each(weight_grad),
    recompute: each(forward),
  };
  if (recompute !== "in-backward") return costs;
  const more = (values) => values.map((value, stage) => value + costs.recompute[stage]);
  return { ...costs, backward: more(costs.backward), input_grad: more(costs.input_grad) };
}

/** How long each row takes; the first of an overlapped pair takes what both do. */
export function durationsOf(order, looks, costs) {
  const { count, kind, stage, second } = order;
  const nothing = new Float64Array(costs.forward.length); // an optimizer step, for instance
  const tables = looks.map(({ cost }) => costs[cost] ?? nothing);
  const duration = new Float64Array(count);
  for (let row = 0; row < count; row += 1) {
    if (second[row]) continue;
    if (!second[row + 1]) duration[row] = tables[kind[row]][stage[row]];
    else {
      for (const half of [row, row + 1]) {
        const { cost } = looks[kind[half]];
        duration[row] += costs[cost === "input_grad" ? "backward" : cost][stage[half]];
      }
    }
  }
  return duration;
}

/**
 * {started, ended} of each row, if each starts as early as its rank and its inputs allow. Each rank
 * goes on until it waits for a row that has not ended, then the next rank has its turn. `latency`:
 * of all messages, or an array with that of each row's input.
 */
export function longestPath(order, duration, latency) {
  const { count, offsets, rank, needs, second } = order;
  const started = new Float64Array(count);
  const ended = new Float64Array(count).fill(NaN);
  const next = offsets.slice(0, -1);
  const free = new Float64Array(next.length);
  const delays = typeof latency === "number" ? null : latency;
  for (let left = count, before = -1; left > 0 && left !== before;) {
    before = left;
    for (let r = 0; r < next.length; r += 1) {
      for (let row = next[r]; row < offsets[r + 1]; row = next[r]) {
        const last = second[row + 1] ? row + 1 : row;
        let start = free[r];
        for (let half = row; half <= last; half += 1) {
          const need = needs[half];
          if (need < 0) continue;
          // NaN, and so `start`, while the input has not ended
          const delay = rank[need] === r ? 0 : delays ? delays[half] : latency;
          start = Math.max(start, ended[need] + delay);
        }
        if (Number.isNaN(start)) break;
        free[r] = start + duration[row];
        for (let half = row; half <= last; half += 1) {
          started[half] = start;
          ended[half] = free[r];
        }
        next[r] = last + 1;
        left -= last + 1 - row;
      }
    }
  }
  return { started, ended };
}

/**
 * The order of a prediction, and its times with these settings, in double precision: `duration`,
 * `started` and `ended` of each row, `costs` by name and stage, `latency` and `makespan`.
 */
export function simulate(message, settings) {
  const order = orderOf(message);
  const costs = costsPerStage(settings, message.stages);
  const duration = durationsOf(order, message.looks, costs);
  const { latency } = settings;
  const times = longestPath(order, duration, latency);
  const makespan = order.offsets.reduce(
    (most, end) => Math.max(most, times.ended[end - 1] ?? 0),
    0,
  );
  return { ...order, ...times, costs, duration, latency, makespan };
}

/**
 * A prediction as Python would send it with these settings, in abstract units: a plain object of
 * those of the lab, which differ from the message's in `COSTS` at most. What only the kernel knows
 * is left open: the lower bound has no value, and there is no formula. Null for a message whose
 * order cannot be timed anew, such as a measured one.
 */
export function retime(message, settings) {
  if (!message.needs) return null;
  const timed = simulate(message, settings);
  const { kind, started, ended, makespan } = timed;
  const bars = timed.bars.slice();
  const forwards = [];
  for (let row = 0; row < timed.count; row += 1) {
    bars[7 * row + 4] = started[row];
    bars[7 * row + 5] = ended[row];
    if (message.looks[kind[row]].sends === "down") forwards.push(ended[row] - started[row]);
  }
  const values = { lower_bound: null, ...numbersOf(timed, settings) };
  const numbers = message.numbers.map((number) => {
    if (!(number.key in values)) return number;
    return { ...number, value: values[number.key], definition: definitionOf(number) };
  });
  return {
    ...message,
    settings: { ...message.settings, ...settings },
    needs: timed.needs,
    bars,
    numbers,
    unit: "",
    end: makespan,
    step: median(forwards),
    latency: timed.latency,
    formula: {},
  };
}

/** That of a number which is computed here: it may name a time that has changed. */
function definitionOf({ key, definition }) {
  if (key === "lower_bound") return "";
  return key === "time_per_batch"
    ? definition.replace(/(alone takes).*/, `$1 ${WHOLE}`)
    : definition;
}

/** The numbers that depend on times, by their keys. */
export function numbersOf({ offsets, duration, started, ended, makespan }, { microbatches }) {
  const ranks = offsets.length - 1;
  let [idle, busy, longest, rate] = [0, 0, 0, 0];
  for (let r = 0; r < ranks; r += 1) {
    const mine = duration.subarray(offsets[r], offsets[r + 1]).reduce((sum, time) => sum + time, 0);
    const span = ended[offsets[r + 1] - 1] - started[offsets[r]];
    busy += mine;
    idle += withoutRounding(makespan - mine, makespan);
    if (span > longest) [longest, rate] = [span, withoutRounding(1 - mine / span, 1)];
  }
  return {
    makespan,
    time_per_batch: makespan,
    speed_up: WHOLE / makespan,
    bubble_fraction: idle / (ranks * makespan),
    bubble_overhead: idle / busy,
    bubble_rate: rate,
    throughput: microbatches / makespan,
  };
}

/** Time that is left of a whole, with 0 for what is below it by the rounding of sums. */
function withoutRounding(time, whole) {
  return time < 0 && time > -ROUNDING * whole ? 0 : time;
}

export function median(values) {
  if (!values.length) return 1;
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
