import assert from "node:assert/strict";
import test from "node:test";
import { workerAfter } from "../../pipelab/widgets/shapes.js";

test("arrows walk the mesh and stay inside", () => {
  assert.equal(workerAfter("ArrowRight", 1, 4, 8), 2);
  assert.equal(workerAfter("ArrowDown", 1, 4, 8), 5);
  assert.equal(workerAfter("ArrowDown", 5, 4, 8), 5);
  assert.equal(workerAfter("ArrowUp", 5, 4, 8), 1);
  assert.equal(workerAfter("ArrowLeft", 0, 4, 8), 0);
  assert.equal(workerAfter("Home", 5, 4, 8), 0);
  assert.equal(workerAfter("End", 5, 4, 8), 7);
  assert.equal(workerAfter("d", 5, 4, 8), null);
});
