import test from "node:test";
import assert from "node:assert/strict";
import { request, setTraits } from "../../pipelab/widgets/requests.js";

/** A model that remembers what it would send. */
function modelOf(state) {
  const sent = [];
  return {
    sent,
    get: (name) => state[name],
    set: (name, value) => (state[name] = value),
    save_changes: () => sent.push("saved"),
    send: (message) => sent.push(message),
  };
}

test("a request takes along what was changed before it, once", () => {
  const model = modelOf({ ranks: 4, sizes: [1, 2] });
  setTraits(model, { ranks: 5, sizes: [2, 1] });
  setTraits(model, { ranks: 6 });
  request(model, "unpin", { index: 1 });
  request(model, "run");
  assert.deepEqual(model.sent, [
    "saved",
    "saved",
    { action: "unpin", index: 1, changed: { ranks: 6, sizes: [2, 1] } },
    { action: "run", changed: {} },
  ]);
});

test("what Python has changed since is Python's", () => {
  const model = modelOf({ ranks: 4 });
  setTraits(model, { ranks: 5 });
  model.set("ranks", 8); // as an update from Python does
  request(model, "run");
  assert.deepEqual(model.sent.at(-1), { action: "run", changed: {} });
});

test("of each widget its own", () => {
  const [one, other] = [modelOf({ at: 0 }), modelOf({ at: 0 })];
  setTraits(one, { at: 3 });
  request(other, "hello");
  assert.deepEqual(other.sent, [{ action: "hello", changed: {} }]);
});
