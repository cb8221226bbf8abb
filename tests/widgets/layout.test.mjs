import assert from "node:assert/strict";
import { test } from "node:test";
import { hit, layout } from "../../pipelab/plots/frontend/layout.js";
import { drawStrips } from "../../pipelab/plots/frontend/strips.js";

const picture = (changes = {}) =>
  layout({ width: 1000, ranks: 4, timelines: 2, end: 33, ...changes });

test("nothing overlaps: lanes, strip and the next rank follow each other downwards", () => {
  for (const ranks of [1, 4, 8, 9, 16]) {
    for (const timelines of [1, 2]) {
      const geometry = picture({ ranks, timelines });
      const boxes = geometry.rows.flatMap((row) => [...row.lanes, row.strip]);
      boxes
        .slice(1)
        .forEach((box, i) =>
          assert.ok(box.top > boxes[i].top + boxes[i].height, `${ranks} ranks, box ${i}`),
        );
      assert.ok(geometry.axis > boxes.at(-1).top + boxes.at(-1).height);
      assert.ok(geometry.height >= geometry.axis + 18, "room for the numbers of the axis");
    }
  }
});

test("time and pixels are inverse, and time stays within the picture", () => {
  const geometry = picture();
  for (const moment of [0, 1.5, 33])
    assert.ok(Math.abs(geometry.time(geometry.x(moment)) - moment) < 1e-9);
  assert.equal(geometry.x(0), geometry.left);
  assert.equal(geometry.x(33), geometry.right);
  assert.equal(geometry.time(-50), 0);
  assert.equal(geometry.time(5000), 33);
});

test("a narrow picture keeps room for the bars", () => {
  const geometry = picture({ width: 320 });
  assert.ok(geometry.right - geometry.left > 200);
  assert.ok(geometry.right < 320);
});

test("the pointer finds the lane, the memory strip, or nothing", () => {
  const geometry = picture();
  const row = geometry.rows[2];
  const x = geometry.left + 10;
  assert.equal(hit(geometry, x, row.lanes[1].top + 1).lane, 1);
  assert.equal(hit(geometry, x, row.lanes[1].top + 1).row.rank, 2);
  assert.equal(hit(geometry, x, row.strip.top + 5).lane, null);
  assert.equal(hit(geometry, geometry.left - 5, row.lanes[0].top + 1), null);
  assert.equal(hit(geometry, x, geometry.height), null);
});

test("the strip of an overlapped pair is filled once", () => {
  const step = (time, level) => ({ time, level });
  // F 0 to 2, then a pair from 2 to 6, whose halves have the same times
  const memory = [[step(0, 1), step(2, 1), step(2, 2), step(6, 1), step(2, 2), step(6, 1)]];
  const timeline = { ranks: 1, memory, parts: ["activations"], memory_peak: 2, end: 6 };
  const geometry = layout({ width: 800, ranks: 1, timelines: 1, end: 6 });
  const rects = [];
  const pen = {
    fillRect: (...rect) => pen.globalAlpha === 0.32 && rects.push(rect),
    globalAlpha: 1,
  };
  drawStrips(pen, geometry, [timeline], { muted: "#000000", ink: "#000000" });
  rects.sort(([a], [b]) => a - b);
  assert.equal(rects.length, 2);
  assert.ok(rects[0][0] + rects[0][2] <= rects[1][0]);
});
