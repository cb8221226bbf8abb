import test from "node:test";
import assert from "node:assert/strict";
import { orderKey, predictor } from "../../pipelab/widgets/predictor.js";
import { looks } from "./looks.mjs";

const bars = Float32Array.from(
  [
    [0, 0, 0, 0, 0, 1, 0],
    [0, 0, 0, 1, 1, 3, 0],
  ].flat(),
);
const settings = {
  schedule: "naive",
  ranks: 1,
  microbatches: 1,
  stages_per_rank: 0,
  forward: 1,
  input_grad: 1,
  weight_grad: 1,
  latency: 0,
  overhead: 0,
  stage_costs: [],
  recompute: "none",
  hold: "microbatch",
};
const message = (changes = {}) => ({
  ranks: 1,
  stages: 1,
  microbatches: 1,
  looks,
  bars,
  memory: new Float32Array(4),
  parts: ["a"],
  needs: new Int32Array([-1, -1]),
  unit: "",
  text: "naive",
  numbers: [{ key: "makespan", value: 3 }],
  settings: { ...settings, ...changes },
});

function modelOf(values) {
  const sent = [];
  const all = {
    ...settings,
    catalogue: [
      { name: "naive", from_costs: false },
      { name: "auto", from_costs: true },
    ],
    limits: { microbatches: [1, 64, 1], ranks: [1, 16, 1], stages_per_rank: [1, 4, 1] },
    defaults: settings,
    predicted: message(),
    problem: "",
    ...values,
  };
  return {
    get: (name) => all[name],
    set: (name, value) => (all[name] = value),
    send: (content) => sent.push(content),
    sent,
  };
}

test("costs belong to an order only where it is built from them", () => {
  assert.equal(
    orderKey({ ranks: 2, latency: 0 }, false),
    orderKey({ latency: 1, ranks: 2 }, false),
  );
  assert.notEqual(
    orderKey({ ranks: 2, latency: 0 }, true),
    orderKey({ ranks: 2, latency: 1 }, true),
  );
});

test("a cost that has moved is predicted here, until the kernel's answer is there", () => {
  const model = modelOf({});
  const ahead = predictor(model);
  assert.ok(ahead.exact());
  model.set("forward", 4);
  assert.ok(!ahead.exact());
  assert.equal(ahead.current().end, 6);
  assert.equal(ahead.current().text, "naive ranks=1 microbatches=1 forward=4");
  assert.equal(ahead.current(), ahead.current());
  model.set("predicted", message({ forward: 4 }));
  ahead.watch["change:predicted"]();
  assert.ok(ahead.exact());
  ahead.close();
});

test("an order that was fetched ahead is drawn at once, one that was not waits", () => {
  const model = modelOf({});
  const ahead = predictor(model);
  model.set("microbatches", 2);
  assert.equal(ahead.current(), model.get("predicted")); // the last that is known
  ahead.watch["msg:custom"]({ orders: [message({ microbatches: 2 })] });
  assert.notEqual(ahead.current(), model.get("predicted"));
  assert.equal(ahead.current().settings.microbatches, 2);
  ahead.close();
});

test("an order that is built from costs waits for the kernel", () => {
  const model = modelOf({ schedule: "auto", predicted: message({ schedule: "auto" }) });
  const ahead = predictor(model);
  model.set("forward", 4);
  assert.equal(ahead.current(), model.get("predicted"));
  ahead.close();
});

test("neighbours are asked for once, when nothing moves", async () => {
  const model = modelOf({});
  const ahead = predictor(model);
  await new Promise((done) => setTimeout(done, 250));
  const [{ action, changes }] = model.sent;
  assert.equal(action, "orders");
  assert.deepEqual(
    changes.map((change) => Object.entries(change)[0].join("=")),
    ["microbatches=2", "microbatches=3", "microbatches=4", "ranks=2", "ranks=3", "ranks=4"],
  );
  ahead.watch["change:predicted"]();
  await new Promise((done) => setTimeout(done, 250));
  assert.equal(model.sent.length, 1);
  ahead.close();
});
