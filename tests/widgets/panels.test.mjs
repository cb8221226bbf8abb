import assert from "node:assert/strict";
import { test } from "node:test";
import { actionRows } from "../../pipelab/plots/frontend/table.js";
import { ceiling, peak, shareCeiling } from "../../pipelab/plots/frontend/strips.js";
import { intervals } from "../../pipelab/plots/frontend/marks.js";
import { difference, rescaled } from "../../pipelab/widgets/compare.js";
import { filled, pieces } from "../../pipelab/widgets/formula.js";
import { background, shares } from "../../pipelab/widgets/idle.js";
import { changed } from "../../pipelab/widgets/stagecosts.js";
import { gapRows } from "../../pipelab/widgets/training.js";

test("a formula falls into text and symbols, and words keep their letters", () => {
  assert.deepEqual(
    pieces("2c (p − 1)").map(({ text, symbol }) => text ?? `<${symbol}>`),
    ["2", "<c>", " (", "<p>", " − 1)"],
  );
  assert.deepEqual(
    pieces("for even p").filter(({ symbol }) => symbol),
    [{ symbol: "p" }],
  );
  assert.deepEqual(
    pieces("F&B + B").filter(({ symbol }) => symbol),
    [{ symbol: "F&B" }, { symbol: "B" }],
  );
});

test("numbers stand for symbols, with a dot where only the place said times", () => {
  const symbols = { p: 4, m: 8, v: 2, F: 1, B: 2, I: 1, W: 1, c: 0.5, "F&B": 3 };
  assert.equal(
    filled("(m + p − 1)(F + B) + 2 (p − 1) c", symbols),
    "(8 + 4 − 1)(1 + 2) + 2 · (4 − 1) · 0.5",
  );
  assert.equal(filled("m v (F + B)", symbols), "8 · 2 · (1 + 2)");
  assert.equal(filled("(3p − 7) F", symbols), "(3 · 4 − 7) · 1");
  assert.equal(filled("(p/2 − 1)(F&B + B − 3W)", symbols), "(4/2 − 1)(3 + 2 − 3 · 1)");
});

test("differences say which way is better", () => {
  assert.deepEqual(difference("makespan", 44, 33), { text: "+33 %", verdict: "worse" });
  assert.deepEqual(difference("makespan", 33, 44), { text: "−25 %", verdict: "better" });
  assert.deepEqual(difference("throughput", 2, 1), { text: "+100 %", verdict: "better" });
  assert.deepEqual(difference("speed_up", 3, 2), { text: "+50 %", verdict: "better" });
  assert.deepEqual(difference("makespan", 33, 33), { text: "=", verdict: "" });
  assert.deepEqual(difference("bubble_fraction", 0.1, 0), { text: "more", verdict: "worse" });
  assert.deepEqual(difference("lower_bound", 1, 2), { text: "", verdict: "" });
  assert.deepEqual(difference("makespan", undefined, 2), { text: "", verdict: "" });
});

test("a pin takes the unit of the picture above it", () => {
  const pin = {
    unit: "",
    end: 3,
    step: 1,
    bars: [[{ start: 1, end: 3 }]],
    memory: [[{ time: 1, level: 2 }]],
    numbers: [
      { form: "time", value: 3 },
      { form: "rate", value: 0.5 },
      { form: "percent", value: 0.1 },
    ],
  };
  const big = rescaled(pin, 10, "ms");
  assert.deepEqual(
    [big.unit, big.end, big.step, big.bars[0][0], big.memory[0][0]],
    ["ms", 30, 10, { start: 10, end: 30 }, { time: 10, level: 2 }],
  );
  assert.deepEqual(
    big.numbers.map(({ value }) => value),
    [30, 0.05, 0.1],
  );
  assert.equal(rescaled(pin, 1, "ms"), pin);
});

test("idle time by cause, as shares of the makespan, without causes of no time", () => {
  const looks = [
    { cause: "warm-up", colour: "#ccc", dark: "#333", pattern: "" },
    { cause: "transfer", colour: "#abc", dark: "#123", pattern: "x" },
  ];
  const rows = shares({ looks, totals: { "warm-up": [0, 2], transfer: [1, 1] }, makespan: 10 });
  assert.deepEqual(
    rows.map((row) => row.map(({ look, share }) => [look.cause, share])),
    [
      [["transfer", 0.1]],
      [
        ["warm-up", 0.2],
        ["transfer", 0.1],
      ],
    ],
  );
  assert.equal(background(looks[0], false), "#ccc");
  assert.match(background(looks[1], true), /repeating-linear-gradient.*#123$/);
  assert.deepEqual(intervals({ looks, intervals: Float32Array.from([1, 2, 3, 1]) }), [
    { rank: 1, start: 2, end: 3, look: looks[1] },
  ]);
});

test("a bar of stage costs stays in its range, and equal stages are no list at all", () => {
  assert.deepEqual(changed([], 3, 1, 1.6), [1, 1.5, 1]);
  assert.deepEqual(changed([1, 1.5, 1], 3, 1, 1), []);
  assert.deepEqual(changed([], 2, 0, 99), [3, 1]);
  assert.deepEqual(changed([], 2, 0, -1), [0.25, 1]);
});

test("peaks and the height of a strip: the limit counts where it is near", () => {
  const timeline = { memory_peak: 4, memory: [[{ level: 3 }, { level: 1 }], []] };
  assert.deepEqual([peak(timeline, 0), peak(timeline, 1)], [3, 0]);
  assert.equal(ceiling(timeline), 4);
  assert.equal(ceiling({ ...timeline, limits: [6, 6] }), 6);
  assert.equal(ceiling({ ...timeline, limits: [40, 40] }), 4);
});

test("the table has a row for each action", () => {
  const looks = [{ letter: "F", title: "forward" }];
  const timeline = {
    source: "predicted",
    unit: "ms",
    looks,
    bars: [[{ rank: 0, stage: 0, microbatch: 2, kind: 0, start: 1, end: 2.5 }]],
  };
  assert.deepEqual(actionRows([timeline]), [
    ["0", "predicted", "0F2", "forward", "1 ms", "2.5 ms"],
  ]);
});

test("the gap in parts, with signs", () => {
  const gap = {
    compute: [3, 0],
    transfer: [0.001, 0],
    waiting: [-1, 2],
    overhead: [0.5, 0],
    processors: [0, 1.5],
    total: [2.5, 3.5],
  };
  assert.deepEqual(gapRows(gap), [
    ["rank", "compute", "transfer", "waiting", "overhead", "processors", "total"],
    ["0", "+3.0", "0", "−1.0", "+0.5", "0", "+2.5"],
    ["1", "0", "0", "+2.0", "0", "+1.5", "+3.5"],
  ]);
});

test("strips of a lab and its pins have one scale for each unit", () => {
  const [one, other] = [
    { memory_unit: "activations", memory_peak: 4 },
    { memory_unit: "activations", memory_peak: 8, limits: [9] },
  ];
  const bytes = { memory_unit: "bytes", memory_peak: 4096 };
  const levels = shareCeiling([one, other, bytes]);
  assert.deepEqual([one, other, bytes].map(ceiling), [9, 9, 4096]);
  // While a slider is held, it does not fall; then it does.
  shareCeiling([one, bytes], levels);
  assert.equal(ceiling(one), 9);
  shareCeiling([one, bytes]);
  assert.equal(ceiling(one), 4);
});
