import assert from "node:assert/strict";
import { test } from "node:test";
import { edge, inkOn, shade } from "../../pipelab/plots/frontend/colour.js";
import { numberRows, spoken } from "../../pipelab/plots/frontend/numbers.js";
import { badge, lossPoints } from "../../pipelab/widgets/training.js";

const one = (value) => [
  {
    key: "makespan",
    label: "makespan",
    form: "time",
    definition: "first start to last end",
    value,
  },
];
const predicted = { source: "predicted", unit: "ms", numbers: one(330) };

test("shades are those of palette.py", () => {
  assert.equal(shade("#4477AA", 0), "#799ec2");
  assert.equal(shade("#4477AA", 1), "#376089");
  assert.equal(shade("#4477AA", 0.5), "#4477aa");
  assert.equal(inkOn("#4477aa"), "#ffffff");
  assert.equal(inkOn("#ddaa33"), "#000000");
  assert.equal(edge("#ffffff"), "#a6a6a6");
});

test("numbers stand side by side with their definition", () => {
  const measured = { source: "measured", unit: "ms", numbers: one(331.2) };
  assert.deepEqual(numberRows([predicted, measured]), [
    { label: "makespan", values: ["330 ms", "331.2 ms"], definition: "first start to last end" },
  ]);
});

test("while a run lasts its numbers are dashes", () => {
  assert.deepEqual(
    numberRows([predicted, { source: "measured", unit: "ms", numbers: [] }])[0].values,
    ["330 ms", "–"],
  );
  assert.deepEqual(numberRows([{ source: "measured", unit: "ms", numbers: [] }]), []);
  assert.equal(spoken([predicted]), "makespan predicted 330 ms");
});

test("the badge is good up to 1e-5, and says why where there is no number", () => {
  assert.equal(badge({}), null);
  assert.deepEqual(badge({ gradient_error: 1e-5, gradient_note: null }), {
    text: "gradients match the unsplit model: 1.0e-5",
    good: true,
  });
  assert.equal(
    badge({ gradient_error: 0, gradient_note: "in float64" }).text,
    "gradients match the unsplit model: 0 (in float64)",
  );
  assert.deepEqual(badge({ gradient_error: 2e-5 }), {
    text: "gradients differ from the unsplit model: 2.0e-5",
    good: false,
  });
  assert.deepEqual(badge({ gradient_error: null, gradient_note: "asynchronous weights" }), {
    text: "asynchronous weights",
    good: false,
  });
});

test("the loss curve falls from the upper left; steps to come leave room at the right", () => {
  assert.equal(lossPoints([2, 1, 0], 3, 100, 50), "0.0,0.0 50.0,25.0 100.0,50.0");
  assert.equal(lossPoints([2, 1], 5, 100, 50), "0.0,0.0 25.0,50.0");
  assert.equal(lossPoints([0], 1, 100, 50), "0.0,0.0");
});
