import assert from "node:assert/strict";
import { test } from "node:test";
import { drawLabels } from "../../pipelab/plots/frontend/draw.js";
import { layout } from "../../pipelab/plots/frontend/layout.js";

const [F, B, G] = [0, 1, 2];
const looks = ["F", "B", "G"].map((letter) => ({ letter, pattern: "", colour: "#4477aa" }));

/** What is written on a lane with bars of [kind, micro-batch, pixels], from left to right. */
function written(actions, microbatches = 4) {
  let end = 0;
  const bars = actions.map(([kind, microbatch, wide]) => {
    const start = end;
    end += wide;
    return { rank: 0, stage: 0, microbatch, kind, start, end, part: 0 };
  });
  const geometry = { ...layout({ width: 1000, ranks: 1, timelines: 1, end }), x: (time) => time };
  const words = [];
  const context = { fillText: (text, x) => words.push([x, text]), fillRect() {} };
  const timeline = { bars: [bars], looks, microbatches, stages: 1 };
  drawLabels(context, geometry, 0, timeline, { font: "sans-serif" });
  return words.sort(([a], [b]) => a - b).map(([, text]) => text);
}

test("a narrow collective has no label, and takes those of nothing else", () => {
  for (const wide of [0, 5])
    assert.deepEqual(
      written([
        [F, 0, 30],
        [B, 0, 60],
        [G, -1, wide],
      ]),
      ["F0", "B0"],
    );
  assert.deepEqual(
    written([
      [F, 0, 30],
      [G, -1, 12],
    ]),
    ["F0", "G"],
  );
});

test("all actions of a kind have a label in a lane, or none has", () => {
  assert.deepEqual(
    written(
      [
        [F, 9, 13],
        [F, 10, 13],
        [B, 9, 26],
        [B, 10, 26],
      ],
      11,
    ),
    ["B9", "B10"],
  );
  assert.deepEqual(
    written([
      [G, -1, 20],
      [G, -1, 5],
      [F, 0, 30],
    ]),
    ["F0"],
  );
});

test("kinds with micro-batches share one form in a lane", () => {
  assert.deepEqual(
    written([
      [F, 0, 12],
      [B, 0, 30],
      [G, -1, 30],
    ]),
    ["0", "0", "G"],
  );
});
