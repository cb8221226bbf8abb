import test from "node:test";
import assert from "node:assert/strict";
import { alike, between, canSlide, eased, way } from "../../pipelab/plots/frontend/motion.js";

const bar = (microbatch, start, end) => ({ rank: 0, kind: 0, stage: 0, microbatch, start, end });
const timeline = (bars, memory = [[]]) => ({
  ranks: 1,
  unit: "",
  source: "predicted",
  memory_unit: "activations",
  parts: ["activations"],
  end: Math.max(...bars.flat().map(({ end }) => end)),
  bars,
  memory,
});

test("a bar is half-way between its places, and a new one is where it will be", () => {
  const from = timeline([[bar(0, 0, 2), bar(1, 6, 8)]]);
  const to = timeline([[bar(0, 0, 1), bar(1, 1, 2), bar(2, 2, 3)]]);
  const half = way(from, to)(0.5);
  assert.deepEqual(
    half.bars[0].map(({ start, end }) => [start, end]),
    [
      [0, 1.5],
      [3.5, 5],
      [2, 3],
    ],
  );
  assert.equal(half.end, 5.5);
  assert.deepEqual(way(from, to)(1).bars, to.bars);
});

test("a strip on its way has the mean of both levels at every time", () => {
  const step = (time, level) => ({ time, level });
  const before = [step(0, 2), step(4, 0)];
  const after = [step(0, 0), step(2, 4), step(4, 2)];
  assert.deepEqual(between(before, after, 0.5), [step(0, 1), step(2, 3), step(4, 1)]);
  assert.deepEqual(
    between(before, after, 0).map(({ level }) => level),
    [2, 2, 0],
  );
  const parts = (time, ...list) => ({ time, level: list[0] + list[1], parts: list });
  assert.deepEqual(between([parts(0, 2, 4)], [parts(0, 4, 0)], 0.5), [parts(0, 3, 2)]);
});

test("only pictures of the same kind slide", () => {
  const one = timeline([[bar(0, 0, 1)]]);
  assert.ok(canSlide([one], [one]));
  assert.ok(!canSlide([], [one]));
  assert.ok(!canSlide([one], [one, one]));
  assert.ok(!canSlide([one], [{ ...one, unit: "ms" }]));
  assert.ok(!canSlide([one], [{ ...one, ranks: 2 }]));
});

test("motion ends at its place", () => {
  assert.equal(eased(0), 0);
  assert.equal(eased(1), 1);
  assert.equal(eased(3), 1);
  assert.ok(eased(0.5) > 0.5);
});

test("the kernel's answer to what is already shown is nothing new", () => {
  const one = timeline([[bar(0, 0, 1), bar(1, 1, 3)]]);
  const rounded = timeline([[bar(0, 0, 1), bar(1, 1.0000001, 3)]]);
  assert.ok(alike([one], [rounded]));
  assert.ok(!alike([one], [timeline([[bar(0, 0, 1), bar(1, 1.1, 3)]])]));
  assert.ok(!alike([one], [timeline([[bar(0, 0, 1)]])]));
  assert.ok(!alike([], [one]) && !alike([one], []) && !alike([one], [one, one]));
});
