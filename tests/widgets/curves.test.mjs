import assert from "node:assert/strict";
import { test } from "node:test";
import { crossing, least } from "../../pipelab/widgets/tradeoff.js";
import { placed } from "../../pipelab/widgets/family.js";

test("the least time is where both losses together are least", () => {
  assert.deepEqual(least(25, [9, 5, 2], [0, 3, 8]), { index: 1, time: 33 });
  assert.deepEqual(least(25, [9, 5, 2], [0, 0, 0]), { index: 2, time: 27 });
});

test("curves cross between two places, or not at all", () => {
  assert.deepEqual(crossing([10, 0], [0, 10]), { place: 0.5, value: 5 });
  assert.equal(crossing([10, 8], [0, 1]), null);
  assert.equal(crossing([1, 0], [2, 3]), null);
});

test("names of near points do not lie on each other", () => {
  const spots = placed([
    ["a", 10, 10],
    ["b", 10, 10],
    ["c", 2, 10],
  ]);
  assert.equal(spots[0].down, 4);
  assert.ok(spots[1].down >= 19);
  assert.ok(spots[2].x < spots[0].x && spots[2].y === spots[0].y);
});
