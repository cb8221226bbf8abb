import assert from "node:assert/strict";
import { test } from "node:test";
import { hit, layout } from "../../pipelab/plots/frontend/layout.js";

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
