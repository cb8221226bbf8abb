import assert from "node:assert/strict";
import { test } from "node:test";
import { PACE, Player } from "../../pipelab/plots/frontend/player.js";

/** A player on animation frames that the test fires itself, at moments in milliseconds. */
function rig() {
  const frames = [];
  const moves = [];
  const player = new Player((time, playing) => moves.push([time, playing]), {
    frame: (callback) => frames.push(callback),
    cancel: () => frames.splice(0),
  });
  player.span(10, 1);
  return { player, moves, tick: (now) => frames.shift()(now), frames };
}

test("at rest the playhead stands at the end, whatever the end becomes", () => {
  const { player } = rig();
  assert.equal(player.time, 10);
  player.span(33, 1);
  assert.equal(player.time, 33);
  player.seek(5);
  player.span(20, 1);
  assert.equal(player.time, 5);
  player.span(4, 1);
  assert.equal(player.time, 4);
});

test("playing starts over from the end and moves by real time, step and speed", () => {
  const { player, tick } = rig();
  player.play();
  assert.equal(player.time, 0);
  tick(1000);
  tick(1100);
  assert.ok(Math.abs(player.time - 0.1 * PACE) < 1e-9);
  player.speed = 2;
  tick(1200);
  assert.ok(Math.abs(player.time - 0.3 * PACE) < 1e-9);
});

test("it stops at the end and asks for no more frames", () => {
  const { player, moves, tick, frames } = rig();
  player.play();
  tick(0);
  tick(60_000);
  assert.equal(player.time, 10);
  assert.deepEqual(moves.at(-1), [10, false]);
  assert.equal(frames.length, 0);
});

test("pausing holds the moment; playing again goes on without a jump", () => {
  const { player, tick, frames } = rig();
  player.play();
  tick(0);
  tick(200);
  const held = player.time;
  player.pause();
  assert.equal(frames.length, 0);
  player.play();
  tick(90_000);
  assert.equal(player.time, held);
});

test("arrow keys pause and move to whole units", () => {
  const { player } = rig();
  player.seek(2.5);
  player.nudge(1);
  assert.equal(player.time, 3);
  player.nudge(1);
  assert.equal(player.time, 4);
  player.seek(2.5);
  player.nudge(-1);
  assert.equal(player.time, 2);
  player.nudge(-10);
  assert.equal(player.time, 0);
  player.play();
  player.nudge(1);
  assert.equal(player.playing, false);
});

test("rest stops, and stays at the end when the picture grows", () => {
  const { player, frames } = rig();
  player.play();
  player.rest();
  player.span(12, 1);
  assert.deepEqual([player.time, player.playing, frames.length], [12, false, 0]);
});

test("an empty picture does not play", () => {
  const { player } = rig();
  player.span(0, 1);
  player.play();
  assert.equal(player.playing, false);
});

test("with loop it starts over at the end, and goes on", () => {
  const { player, tick, frames } = rig();
  player.loop = true;
  player.play();
  tick(0);
  tick(60_000);
  assert.deepEqual([player.time, player.playing, frames.length], [0, true, 1]);
});
