// A profiled model cut elsewhere, without the kernel: seconds and bytes of each stage and rank,
// what crosses the cuts, and the timeline in the order of a prediction that Python sent. Equal to
// layout/cutter.py and simulator/memory.py, but for one thing: messages that wait for one another
// on a link are Python's alone, whose answer takes this one's place.
import { durationsOf, longestPath, median, numbersOf, orderOf } from "./simulate.js";

const MS = 1000;

/** [first layer, first of the next stage] of each stage. */
export function boundsOf(sizes) {
  let stop = 0;
  return sizes.map((size) => [stop, (stop += size)]);
}

/** Sizes with cut number `cut` (after stage `cut`) at layer `to`, which no other cut may pass. */
export function moveCut(sizes, cut, to) {
  const [start] = boundsOf(sizes)[cut];
  const end = start + sizes[cut] + sizes[cut + 1];
  const at = Math.min(end - 1, Math.max(start + 1, to));
  return sizes.map((size, stage) =>
    stage === cut ? at - start : stage === cut + 1 ? end - at : size,
  );
}

/**
 * What a stage of each of these sizes takes and holds. `chain`: columns over the layers by the
 * names of a LayerProfile, and `received`, the bytes of the input of each.
 */
export function stagesOf(chain, sizes) {
  const names = Object.keys(chain).filter((name) => Array.isArray(chain[name]));
  return boundsOf(sizes).map(([start, stop]) => {
    const sum = (name) => chain[name].slice(start, stop).reduce((all, value) => all + value, 0);
    const stage = Object.fromEntries(names.map((name) => [name, sum(name)]));
    stage.activation_bytes += chain.saved_input_bytes[start];
    stage.output_bytes = chain.output_bytes[stop - 1];
    const kept = stage.activation_bytes;
    stage.deferred_activation_bytes = chain.split
      ? Math.min(kept, stage.deferred_activation_bytes)
      : kept;
    stage.seconds = stage.forward + stage.input_grad + stage.weight_grad;
    return stage;
  });
}

/**
 * {stages, ranks, borders, slowest, traffic}: stages as above; of each rank its seconds in
 * `forward`, `input_grad`, `weight_grad` and together, for one micro-batch; `borders`, the seconds
 * of a message over each cut between different ranks, else null; `slowest`, the longest of all
 * these; `traffic`, bytes that cross between ranks in a step. `about`: what Python says of the
 * schedule.
 */
export function cutsOf(about, sizes) {
  const stages = stagesOf(about.chain, sizes);
  const parts = ["forward", "input_grad", "weight_grad", "seconds", "parameter_bytes"];
  const ranks = Array.from({ length: about.ranks }, () =>
    Object.fromEntries(parts.map((part) => [part, 0])),
  );
  for (const [stage, rank] of about.homes)
    for (const part of parts) ranks[rank][part] += stages[stage][part] / about.replicas;
  const { latency, bandwidth } = about.link;
  const borders = about.crosses.map((crosses, stage) =>
    crosses ? latency + (bandwidth ? stages[stage].output_bytes / bandwidth : 0) : null,
  );
  const crossing = stages.slice(0, -1).filter((_, stage) => about.crosses[stage]);
  const bytes = crossing.reduce((all, stage) => all + stage.output_bytes, 0);
  return {
    stages,
    ranks,
    borders,
    slowest: Math.max(...ranks.map(({ seconds }) => seconds), ...borders.map((time) => time ?? 0)),
    traffic: 2 * about.microbatches * bytes, // an activation there, its gradient back
  };
}

/** [held, after] of each row: the activations of its rank while it runs, and then; Float32. */
export function activationsOf(order, looks, stages) {
  const { count, offsets, kind, stage, second } = order;
  const levels = new Float32Array(2 * count);
  const change = (row) => {
    const { activation_bytes: full, ...rest } = stages[stage[row]];
    const [deferred, gradients] = [rest.deferred_activation_bytes, rest.deferred_gradient_bytes];
    const changes = {
      F: [full, 0],
      B: [0, full],
      I: [gradients, full - deferred],
      W: [0, deferred + gradients],
    };
    return changes[looks[kind[row]].letter] ?? [0, 0];
  };
  for (let rank = 0; rank + 1 < offsets.length; rank += 1) {
    let level = 0;
    for (let row = offsets[rank]; row < offsets[rank + 1]; row += 1) {
      const rows = second[row + 1] ? [row, row + 1] : [row];
      const changes = rows.map(change);
      const taken = changes.reduce((all, [takes]) => all + takes, level);
      level = changes.reduce((all, [, gives]) => all - gives, taken);
      for (const each of rows) levels.set([taken, level], 2 * each);
      row += rows.length - 1;
    }
  }
  return levels;
}

/**
 * `message`, a prediction, as it is with these sizes; times in milliseconds, `slower` times as long
 * as they were measured. `found`: the cuts as `cutsOf` has them.
 */
export function recut(message, about, found, slower = 1) {
  const order = orderOf(message);
  const { stages } = found;
  const column = (part) => stages.map((stage) => MS * slower * stage[part]);
  const costs = {
    forward: column("forward"),
    input_grad: column("input_grad"),
    weight_grad: column("weight_grad"),
    backward: stages.map((one) => MS * slower * (one.input_grad + one.weight_grad)),
  };
  const duration = durationsOf(order, message.looks, costs);
  const delays = new Float64Array(order.count);
  for (let row = 0; row < order.count; row += 1) {
    const { sends } = message.looks[order.kind[row]];
    const border = sends === "down" ? order.stage[row] - 1 : order.stage[row];
    if (sends) delays[row] = MS * slower * (found.borders[border] ?? 0);
  }
  const times = longestPath(order, duration, delays);
  const makespan = order.offsets.reduce(
    (most, end) => Math.max(most, times.ended[end - 1] ?? 0),
    0,
  );
  const bars = order.bars.slice();
  const forwards = [];
  for (let row = 0; row < order.count; row += 1) {
    bars[7 * row + 4] = times.started[row];
    bars[7 * row + 5] = times.ended[row];
    if (message.looks[order.kind[row]].sends === "down") forwards.push(duration[row]);
  }
  const memory = activationsOf(order, message.looks, stages);
  const peak = memory.reduce((most, level) => Math.max(most, level), 0);
  const values = numbersOf({ ...order, ...times, duration, makespan }, about);
  values.peak_memory = peak;
  return {
    ...message,
    bars,
    memory,
    needs: order.needs,
    memory_peak: peak,
    end: makespan,
    step: median(forwards),
    numbers: message.numbers.map((number) =>
      number.key in values ? { ...number, value: values[number.key] } : number,
    ),
  };
}
