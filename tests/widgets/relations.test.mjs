import assert from "node:assert/strict";
import { test } from "node:test";
import { hop, passes, relations, underWay } from "../../pipelab/plots/frontend/relations.js";
import { narration, aboutLane } from "../../pipelab/plots/frontend/tips.js";
import { action } from "../../pipelab/plots/frontend/timeline.js";
import { looks } from "./looks.mjs";

const bar = (rank, stage, kind, start, end, microbatch = 0) => ({
  rank,
  stage,
  kind,
  start,
  end,
  microbatch,
  part: 0,
});
// Two ranks with a split backward: F on both, then I down again, W after each I.
const timeline = {
  source: "predicted",
  unit: "",
  step: 1,
  end: 6,
  latency: 0,
  looks,
  microbatches: 1,
  ranks: 2,
  stages: 2,
  bars: [
    [bar(0, 0, 0, 0, 1), bar(0, 0, 2, 4, 5), bar(0, 0, 3, 5, 6)],
    [bar(1, 1, 0, 1, 2), bar(1, 1, 2, 2, 3), bar(1, 1, 3, 3, 4)],
  ],
};
const names = (bars) => bars.map((b) => action(timeline, b));

test("an action needs the stage before it or behind it, and what its own stage kept", () => {
  const [[f0, i0, w0], [f1, i1]] = timeline.bars;
  assert.deepEqual(names(relations(timeline, f0).needs), []);
  assert.deepEqual(names(relations(timeline, f0).feeds), ["1F0", "0I0"]);
  assert.deepEqual(names(relations(timeline, f1).needs), ["0F0"]);
  assert.deepEqual(names(relations(timeline, i1).needs), ["1F0"]);
  assert.deepEqual(names(relations(timeline, i0).needs), ["1I0", "0F0"]);
  assert.deepEqual(names(relations(timeline, i0).feeds), ["0W0"]);
  assert.deepEqual(names(relations(timeline, w0).needs), ["0I0"]);
});

test("where a stage has several versions of its weights, a bar says which one it uses", () => {
  const versioned = (one, version) => ({ ...one, version });
  const rows = [[versioned(bar(0, 0, 0, 0, 1), 3), versioned(bar(0, 0, 5, 1, 2), 4)]];
  const stashing = { ...timeline, bars: rows };
  assert.match(aboutLane(stashing, 0, 0.5, rows[0][0]), /with version 3 of the stage's weights/);
  assert.match(aboutLane(stashing, 0, 1.5, rows[0][1]), /makes version 4 of the stage's weights/);
  assert.doesNotMatch(aboutLane(timeline, 0, 0.5, timeline.bars[0][0]), /version/);
});

test("a recomputation stands between a forward and its backward", () => {
  const again = { looks, bars: [[bar(0, 0, 0, 0, 1), bar(0, 0, 4, 1, 2), bar(0, 0, 1, 2, 4)]] };
  const [f, r, b] = again.bars[0];
  assert.deepEqual(relations(again, f).feeds, [r]);
  assert.deepEqual(relations(again, r).needs, [f]);
  assert.deepEqual(relations(again, b).needs, [r]);
});

test("activations go up and gradients come down, only between different ranks", () => {
  const flights = (shown) => shown.bars.flat().flatMap((from) => passes(shown, from));
  assert.deepEqual(
    flights(timeline).map(({ from, to, forward }) => [from.rank, to.rank, forward]),
    [
      [0, 1, true],
      [1, 0, false],
    ],
  );
  const one = { looks, bars: [[bar(0, 0, 0, 0, 1), bar(0, 1, 0, 1, 2)]] };
  assert.deepEqual(flights(one), []);
});

test("without latency data is seen for a short hop, else for the latency", () => {
  assert.equal(hop(timeline), 0.4);
  assert.equal(hop({ ...timeline, latency: 2 }), 2);
  assert.deepEqual(underWay(timeline, 0.9), []);
  const [trip] = underWay(timeline, 1.2);
  assert.ok(Math.abs(trip.done - 0.5) < 1e-9);
  assert.deepEqual(underWay(timeline, 1.5), []);
});

test("words at the playhead and under the pointer", () => {
  assert.equal(
    narration(timeline, 1.2),
    "predicted, t = 1.2 of 6: rank 1 runs the F of micro-batch 0 · rank 0 idle → " +
      "activations of 0 from rank 0 to 1",
  );
  assert.match(
    aboutLane(timeline, 0, 4.5, timeline.bars[0][1]),
    /needs 1I0 on rank 1, 0F0 on rank 0\nfeeds 0W0 on rank 0\n4 to 5 \(1\)/,
  );
  assert.match(aboutLane(timeline, 0, 2, null), /idle\n1 to 4 \(3\)/);
});

test("what stands for all micro-batches needs nothing, feeds nothing and has no number", () => {
  const gather = bar(0, 0, 6, 0, 1, -1);
  const alone = { looks, source: "predicted", unit: "", bars: [[gather, bar(0, 0, 0, 1, 2)]] };
  assert.deepEqual(relations(alone, gather), { needs: [], feeds: [] });
  assert.deepEqual(passes(alone, gather), []);
  assert.equal(action(alone, gather), "0U");
  assert.match(aboutLane(alone, 0, 0.5, gather), /^rank 0, predicted\n0U: U, stage 0\n/);
});
