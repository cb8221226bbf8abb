import assert from "node:assert/strict";
import { test } from "node:test";
import { kindOf, scoreRows, walk } from "../../pipelab/widgets/builder.js";

test("an action's kind colours its cell", () => {
  assert.deepEqual(["0F1", "12B3", "2I0", "3W7"].map(kindOf), ["pl-F", "pl-B", "pl-I", "pl-W"]);
});

test("a score stands against par, and is judged when it is complete", () => {
  const score = { makespan: 20, peak: 4, par: 18, par_peak: 4, bound: 14, par_name: "1F1B" };
  assert.deepEqual(scoreRows(score, true), [
    { label: "makespan", value: "20", par: "1F1B 18", bound: "14", verdict: "worse" },
    { label: "peak memory", value: "4", par: "1F1B 4", bound: "", verdict: "as good or better" },
  ]);
  assert.equal(scoreRows(score, false)[0].verdict, "");
});

test("arrow keys walk through the grid and stop at its edges", () => {
  assert.deepEqual(walk("ArrowRight", 0, 0, [2, 1]), [0, 1]);
  assert.deepEqual(walk("ArrowRight", 0, 1, [2, 1]), [0, 1]);
  assert.deepEqual(walk("ArrowDown", 0, 1, [2, 1]), [1, 0]);
  assert.deepEqual(walk("ArrowUp", 0, 1, [2, 1]), [0, 1]);
  assert.deepEqual(walk("ArrowLeft", 1, 0, [2, 1]), [1, 0]);
});
