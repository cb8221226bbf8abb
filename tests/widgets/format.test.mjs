import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bytes,
  memory,
  number,
  percent,
  rate,
  short,
  ticks,
  time,
} from "../../pipelab/plots/frontend/format.js";

test("numbers are short and keep what matters", () => {
  assert.equal(short(33), "33");
  assert.equal(short(0.25), "0.25");
  assert.equal(short(330.44), "330.4");
  assert.equal(short(0), "0");
  assert.equal(short(12345.6), "12,346");
  assert.equal(percent(0.27272), "27.3 %");
});

test("bytes are counted in powers of 1024", () => {
  assert.equal(bytes(512), "512 B");
  assert.equal(bytes(1536), "1.5 KiB");
  assert.equal(bytes(200 * 1024), "200 KiB");
  assert.equal(bytes(3.5 * 1024 ** 3), "3.5 GiB");
});

test("the unit decides how time and memory read", () => {
  assert.equal(time(12, ""), "12");
  assert.equal(time(120.25, "ms"), "120.3 ms");
  assert.equal(memory(4, "activations"), "4");
  assert.equal(memory(2048, "bytes"), "2.0 KiB");
});

test("a number that is not known yet is a dash, zero is not", () => {
  assert.equal(number(undefined, "percent", ""), "–");
  assert.equal(number(null, "count", ""), "–");
  assert.equal(number(0, "percent", ""), "0.0 %");
  assert.equal(number(330, "time", "ms"), "330 ms");
  assert.equal(number(4, "count", "ms"), "4");
});

test("axis ticks are round, start at 0, and do not crowd", () => {
  assert.deepEqual(ticks(33, 8), [0, 5, 10, 15, 20, 25, 30]);
  assert.deepEqual(ticks(0.3, 3), [0, 0.1, 0.2, 0.3]);
  assert.deepEqual(ticks(0, 8), [0]);
  for (const end of [0.7, 1, 9.99, 213, 330.4, 1e6]) {
    for (const most of [1, 3, 10]) assert.ok(ticks(end, most).length <= most + 1, `${end} ${most}`);
  }
});

test("throughput is per second where time is in milliseconds", () => {
  assert.equal(rate(0.25, ""), "0.25");
  assert.equal(rate(0.025, "ms"), "25 / s");
  assert.equal(number(2048, "memory", "", "bytes"), "2.0 KiB");
});
