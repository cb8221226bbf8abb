import assert from "node:assert/strict";
import { test } from "node:test";
import {
  action,
  floats,
  gap,
  held,
  running,
  unpack,
} from "../../pipelab/plots/frontend/timeline.js";

// Two ranks: rank 0 runs F0 at 0–1 and an overlap of F1 and B0 at 4–7; rank 1 runs F0 at 1–2.
const BARS = [
  0, 0, 0, 0, 0, 1, 0, /**/ 0, 0, 1, 0, 4, 7, 1, /**/ 0, 0, 0, 1, 4, 7, 2, /**/ 1, 1, 0, 0, 1, 2, 0,
];
const MEMORY = [1, 1, /**/ 2, 1, /**/ 2, 1, /**/ 1, 1]; // while each bar runs, and after it
const timeline = unpack({
  ranks: 2,
  end: 7,
  parts: ["activations"],
  looks: [{ letter: "F" }, { letter: "B" }],
  bars: Float32Array.from(BARS),
  memory: Float32Array.from(MEMORY),
});

test("versions of the weights lie on the bars, where there are some", () => {
  const one = { ranks: 2, parts: ["activations"], looks: [], bars: Float32Array.from(BARS) };
  const message = {
    ...one,
    memory: Float32Array.from(MEMORY),
    versions: Int32Array.of(0, 1, 0, 2),
  };
  const found = unpack(message).bars.flat();
  assert.deepEqual(
    found.map(({ version }) => version),
    [0, 1, 0, 2],
  );
  assert.equal(timeline.bars[0][0].version, undefined);
});

test("bars are grouped by rank", () => {
  assert.deepEqual(
    timeline.bars.map((bars) => bars.length),
    [3, 1],
  );
  assert.deepEqual(timeline.bars[1][0], {
    rank: 1,
    stage: 1,
    microbatch: 0,
    kind: 0,
    start: 1,
    end: 2,
    part: 0,
  });
});

test("messages arrive as a DataView at any offset, as base64, or as an array", () => {
  const numbers = Float32Array.from(BARS);
  // an odd offset: Float32Array cannot look at it in place
  const padded = new Uint8Array(numbers.byteLength + 1);
  padded.set(new Uint8Array(numbers.buffer), 1);
  assert.deepEqual(floats(new DataView(padded.buffer, 1)), numbers);
  assert.deepEqual(floats(Buffer.from(numbers.buffer).toString("base64")), numbers);
  assert.equal(floats(numbers), numbers);
});

test("what runs at a moment: a bar from its start until just before its end", () => {
  const names = (rank, moment) =>
    running(timeline, rank, moment).map((bar) => action(timeline, bar));
  assert.deepEqual(names(0, 0), ["0F0"]);
  assert.deepEqual(names(0, 1), []);
  assert.deepEqual(names(0, 5), ["0F1", "0B0"]);
  assert.deepEqual(names(0, 7), []);
  assert.deepEqual(names(1, 0.5), []);
});

test("an idle gap reaches from the bar before to the bar after", () => {
  assert.deepEqual(gap(timeline, 0, 2), [1, 4]);
  assert.deepEqual(gap(timeline, 1, 0.5), [0, 1]);
  assert.deepEqual(gap(timeline, 1, 6), [2, 7]);
});

test("memory keeps its level until the next step", () => {
  assert.equal(held(timeline, 0, 3.9).level, 1);
  assert.equal(held(timeline, 0, 4).level, 2);
  assert.equal(held(timeline, 1, 0.9).level, 0);
});

test("a level has parts where the message has several, and is their sum", () => {
  const parts = unpack({
    ranks: 1,
    parts: ["activations", "weights"],
    bars: Float32Array.from([0, 0, 0, 0, 0, 1, 0]),
    memory: Float32Array.from([2, 5, 1, 5]),
  });
  assert.deepEqual(
    parts.memory[0].map(({ time, level }) => [time, level]),
    [
      [0, 7],
      [1, 6],
    ],
  );
  assert.deepEqual([...parts.memory[0][1].parts], [1, 5]);
});
