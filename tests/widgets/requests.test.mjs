import test from "node:test";
import assert from "node:assert/strict";
import { request, setDrawn, setTraits } from "../../pipelab/widgets/requests.js";

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

test("what the page draws itself is saved once, after it has been painted", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const model = modelOf({ ranks: 4, latency: 0 });
  setDrawn(model, { latency: 1 });
  setDrawn(model, { latency: 2 });
  assert.deepEqual([model.get("latency"), model.sent], [2, []]);
  request(model, "pin");
  context.mock.timers.tick(60);
  const pin = { action: "pin", changed: { latency: 2 } };
  assert.deepEqual(model.sent, [pin, "saved"]);
  setDrawn(model, { latency: 3 });
  context.mock.timers.tick(60);
  assert.deepEqual(model.sent, [pin, "saved", "saved"]);
});
