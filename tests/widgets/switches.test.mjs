import assert from "node:assert/strict";
import test from "node:test";
import { placeOf } from "../../pipelab/widgets/switches.js";

test("a slider stands at its value, or at the nearest", () => {
  assert.equal(placeOf([1, 2, 4, 8], 4), 2);
  assert.equal(placeOf([1, 2, 4, 8], 7), 3);
  assert.equal(placeOf(["none", "full"], "full"), 1);
  assert.equal(placeOf(["none", "full"], "some"), 0);
});
