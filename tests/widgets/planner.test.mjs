import assert from "node:assert/strict";
import test from "node:test";
import { rowAfter } from "../../pipelab/widgets/planner.js";

test("arrows walk the rows and stay inside", () => {
  assert.equal(rowAfter("ArrowDown", 0, 5), 1);
  assert.equal(rowAfter("ArrowDown", 4, 5), 4);
  assert.equal(rowAfter("ArrowUp", 0, 5), 0);
  assert.equal(rowAfter("Home", 3, 5), 0);
  assert.equal(rowAfter("End", 1, 5), 4);
  assert.equal(rowAfter("d", 1, 5), null);
});
