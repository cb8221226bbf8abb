import assert from "node:assert/strict";
import { test } from "node:test";

import { Raster } from "../../pipelab/plots/frontend/raster.js";

const blank = (width, height) => ({
  width,
  height,
  data: new Uint8ClampedArray(4 * width * height),
});
const pixel = ({ image }, x, y) => [
  ...image.data.slice(4 * (y * image.width + x), 4 * (y * image.width + x) + 4),
];

test("a box fills its pixels and no others", () => {
  const raster = new Raster(blank(6, 4), 1);
  raster.fillStyle = "#4477aa";
  raster.fillRect(1, 1, 3, 2);
  assert.deepEqual(pixel(raster, 1, 1), [0x44, 0x77, 0xaa, 255]);
  assert.deepEqual(pixel(raster, 3, 2), [0x44, 0x77, 0xaa, 255]);
  for (const [x, y] of [
    [0, 1],
    [4, 1],
    [1, 0],
    [1, 3],
  ])
    assert.deepEqual(pixel(raster, x, y), [0, 0, 0, 0]);
});

test("device pixels: a box at ratio 2 is four times as large", () => {
  const raster = new Raster(blank(8, 8), 2);
  raster.fillStyle = "#ffffff";
  raster.fillRect(1, 1, 2, 1);
  const filled = raster.pixels.reduce((count, value) => count + (value ? 1 : 0), 0);
  assert.equal(filled, 8);
  assert.deepEqual(pixel(raster, 2, 2), [255, 255, 255, 255]);
});

test("what lies outside is cut off", () => {
  const raster = new Raster(blank(3, 3), 1);
  raster.fillStyle = "#000000";
  raster.fillRect(-5, -5, 100, 6);
  assert.equal(raster.pixels.filter(Boolean).length, 3);
});

test("a translucent box over nothing keeps its opacity, over something it mixes", () => {
  const raster = new Raster(blank(2, 1), 1);
  raster.globalAlpha = 0.5;
  raster.fillStyle = "#ff0000";
  raster.fillRect(0, 0, 1, 1);
  assert.deepEqual(pixel(raster, 0, 0), [255, 0, 0, 128]);
  raster.globalAlpha = 1;
  raster.fillStyle = "#ffffff";
  raster.fillRect(1, 0, 1, 1);
  raster.globalAlpha = 0.5;
  raster.fillStyle = "#000000";
  raster.fillRect(1, 0, 1, 1);
  assert.deepEqual(pixel(raster, 1, 0), [128, 128, 128, 255]);
});

test("a pattern darkens only where its tile is set", () => {
  const raster = new Raster(blank(4, 2), 1);
  raster.fillStyle = "#ffffff";
  raster.fillRect(0, 0, 4, 2);
  const data = new Uint8ClampedArray([0, 0, 0, 255, 0, 0, 0, 0]);
  raster.fillStyle = raster.createPattern({
    width: 2,
    height: 1,
    getContext: () => ({ getImageData: () => ({ data }) }),
  });
  raster.fillRect(0, 0, 4, 2);
  assert.deepEqual(pixel(raster, 0, 0), [0, 0, 0, 255]);
  assert.deepEqual(pixel(raster, 1, 0), [255, 255, 255, 255]);
  assert.deepEqual(pixel(raster, 2, 1), [0, 0, 0, 255]);
});
