import assert from "node:assert/strict";
import { test } from "node:test";
import { COSTS, retime } from "../../pipelab/plots/frontend/simulate.js";
import { looks } from "./looks.mjs";

// Two ranks, one micro-batch: 0F0, 1F0, 1B0, 0B0. test_simulate.py compares whole schedules with
// Python; here are the forms of a message, and what is left open.
const message = {
  ranks: 2,
  stages: 2,
  looks,
  unit: "ms",
  bars: Float32Array.from(
    [
      [0, 0, 0, 0, 0, 10, 0],
      [0, 0, 0, 1, 40, 60, 0],
      [1, 1, 0, 0, 10, 20, 0],
      [1, 1, 0, 1, 20, 40, 0],
    ].flat(),
  ),
  needs: Int32Array.from([-1, 3, 0, -1]),
  memory: new Float32Array(8),
  numbers: [
    { key: "time_per_batch", value: 60, definition: "first to last; one device alone takes 60 ms" },
    { key: "peak_in_flight", value: 1, definition: "counted" },
    { key: "lower_bound", value: 60, definition: "reached" },
  ],
  formula: { text: "p + m" },
};
const settings = {
  forward: 1,
  input_grad: 1,
  weight_grad: 1,
  latency: 0.5,
  overhead: 0.25,
  stage_costs: [1, 2],
  recompute: "none",
  hold: "microbatch",
  microbatches: 1,
};
const times = (retimed) => [...retimed.bars].filter((_, i) => [4, 5].includes(i % 7));

test("times follow from the order, the costs and the latency", () => {
  const retimed = retime(message, settings);
  assert.deepEqual(times(retimed), [0, 1.25, 8.75, 11, 1.75, 4, 4, 8.25]);
});

test("arrays arrive as a DataView, as base64, or as they are, and the message stays", () => {
  const expected = times(retime(message, settings));
  const view = ({ buffer }) => new DataView(buffer);
  const text = ({ buffer }) => Buffer.from(buffer).toString("base64");
  for (const packed of [view, text]) {
    const { bars, needs } = message;
    const sent = { ...message, bars: packed(bars), needs: packed(needs) };
    assert.deepEqual(times(retime(sent, settings)), expected);
    assert.deepEqual(sent.bars, packed(bars));
  }
  assert.deepEqual(times(retime(retime(message, { ...settings, latency: 7 }), settings)), expected);
});

test("what only the kernel knows is left open, and the unit is that of the settings", () => {
  const { unit, numbers, formula } = retime(message, settings);
  assert.equal(unit, "");
  assert.deepEqual(numbers, [
    { key: "time_per_batch", value: 11, definition: "first to last; one device alone takes 100" },
    { key: "peak_in_flight", value: 1, definition: "counted" },
    { key: "lower_bound", value: null, definition: "" },
  ]);
  assert.deepEqual(formula, {});
});

test("a message without its order cannot be timed anew", () => {
  const { needs, ...measured } = message;
  assert.equal(retime(measured, settings), null);
});

test("each of the costs changes the times", () => {
  const moved = { stage_costs: [1, 3], latency: 1, overhead: 0 };
  for (const name of COSTS) {
    const changed = retime(message, { ...settings, [name]: moved[name] ?? 2 });
    assert.notDeepEqual(times(changed), times(retime(message, settings)), name);
  }
});
