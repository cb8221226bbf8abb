import test from "node:test";
import assert from "node:assert/strict";
import { chosen } from "../../pipelab/widgets/headline.js";
import { second, severalOf } from "../../pipelab/plots/frontend/timeline.js";

const timeline = (...keys) => ({ numbers: keys.map((key) => ({ key })) });

test("the usual numbers are those of one batch where there is one", () => {
  const batch = timeline("time_per_batch", "speed_up", "bubble_fraction", "peak_memory");
  assert.deepEqual(chosen(batch, []), ["time_per_batch", "bubble_fraction", "peak_memory"]);
  const microbatch = timeline("makespan", "bubble_fraction", "bubble_rate", "peak_memory");
  assert.deepEqual(chosen(microbatch, []), ["makespan", "bubble_fraction", "peak_memory"]);
  assert.deepEqual(chosen(microbatch, ["bubble_rate", "speed_up"]), ["bubble_rate"]);
});

const bar = (rank, stage, microbatch) => ({ rank, stage, microbatch, kind: 0 });

test("the second stage of a rank is told apart", () => {
  const looped = {
    bars: [
      [bar(0, 0, 0), bar(0, 2, 0)],
      [bar(1, 1, 0), bar(1, 3, 0)],
    ],
  };
  assert.deepEqual(
    looped.bars.flat().map((b) => second(looped, b)),
    [false, true, false, true],
  );
  assert.ok(severalOf(looped));
  assert.ok(!severalOf({ bars: [[bar(0, 0, 0)], [bar(1, 1, 0)]] }));
});

test("the copy that runs in the other direction is told apart on every rank", () => {
  const both = {
    bars: [
      [bar(0, 0, 0), bar(0, 1, 1)],
      [bar(1, 1, 0), bar(1, 0, 1)],
    ],
  };
  assert.deepEqual(
    both.bars.flat().map((b) => second(both, b)),
    [false, true, false, true],
  );
});
