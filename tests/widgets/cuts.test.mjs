import assert from "node:assert/strict";
import test from "node:test";
import { boundsOf, cutsOf, moveCut } from "../../pipelab/plots/frontend/recut.js";
import { digits, milliseconds, verdictOf } from "../../pipelab/widgets/cutrow.js";

test("a cut moves layers from one stage to its neighbour, and leaves each one", () => {
  assert.deepEqual(moveCut([2, 2, 2], 0, 3), [3, 1, 2]);
  assert.deepEqual(moveCut([2, 2, 2], 0, 9), [3, 1, 2]);
  assert.deepEqual(moveCut([2, 2, 2], 1, 0), [2, 1, 3]);
  assert.deepEqual(boundsOf([2, 1]), [
    [0, 2],
    [2, 3],
  ]);
});

const column = (...values) => values;
const about = {
  ranks: 2,
  replicas: 1,
  microbatches: 4,
  homes: [
    [0, 0],
    [1, 1],
  ],
  crosses: [true],
  link: { latency: 0, bandwidth: null },
  chain: {
    forward: column(1, 1, 2),
    input_grad: column(1, 1, 2),
    weight_grad: column(0, 0, 0),
    parameter_bytes: column(8, 8, 8),
    activation_bytes: column(4, 4, 4),
    saved_input_bytes: column(0, 1, 1),
    output_bytes: column(4, 2, 4),
    deferred_activation_bytes: column(0, 0, 0),
    deferred_gradient_bytes: column(0, 0, 0),
    split: true,
  },
};

test("what a cut comes to", () => {
  const found = cutsOf(about, [2, 1]);
  assert.equal(found.slowest, 4);
  assert.equal(found.traffic, 2 * 4 * 2);
  assert.equal(found.stages[1].activation_bytes, 5, "with the input that it saves");
  assert.match(verdictOf(found), /All ranks take the same/);
  assert.match(verdictOf(cutsOf(about, [1, 2])), /^Rank 1 is the slowest: 1.5 × .* rank 0 waits/);
});

test("a link that takes longer than any rank is told", () => {
  const link = { latency: 0.5, bandwidth: 0.25 };
  const found = cutsOf({ ...about, link }, [2, 1]);
  assert.deepEqual(found.borders, [8.5]);
  assert.equal(found.slowest, 8.5);
  assert.match(verdictOf(found), /the link decides/);
});

test("three digits", () => {
  assert.equal(milliseconds(0.0058712), "5.87 ms");
  assert.equal(digits(62.617), "62.6");
});
