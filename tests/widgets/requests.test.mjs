import test from "node:test";
import assert from "node:assert/strict";
import { request, setDrawn, setTraits } from "../../pipelab/widgets/requests.js";

/** A model that remembers what it would send, and tells of changes as Backbone's does. */
function modelOf(state) {
  const sent = [];
  const told = new Set();
  return {
    sent,
    told,
    get: (name) => state[name],
    set(name, value) {
      const before = { ...state };
      Object.assign(state, typeof name === "string" ? { [name]: value } : name);
      if (Object.keys(state).some((key) => state[key] !== before[key])) {
        for (const callback of told) callback();
      }
    },
    on: (_event, callback) => told.add(callback),
    off: (_event, callback) => told.delete(callback),
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

test("an answer to the value before does not take a slider back", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const model = modelOf({ ranks: 4, latency: 0 });
  setDrawn(model, { ranks: 5 });
  context.mock.timers.tick(60);
  setDrawn(model, { ranks: 6 });
  model.set({ ranks: 5, latency: 2 }); // as Python's answer does
  assert.deepEqual([model.get("ranks"), model.get("latency")], [6, 2]);
  setDrawn(model, { ranks: model.get("ranks") + 1 }); // one key press more
  model.set("ranks", 5);
  request(model, "pin");
  assert.deepEqual(model.sent.at(-1), { action: "pin", changed: { ranks: 7 } });
  context.mock.timers.tick(60);
  model.set("ranks", 8); // from then on Python's word counts
  assert.deepEqual([model.get("ranks"), model.told.size], [8, 0]);
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
