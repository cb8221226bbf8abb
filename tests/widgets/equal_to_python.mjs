// Compares the front end's simulation with Python's: node equal_to_python.mjs FILE, with cases that
// test_simulate.py wrote. Prints {differences}, as lines of text.
import { readFileSync } from "node:fs";
import { causesOf, criticalPath, explainGap } from "../../pipelab/plots/frontend/causes.js";
import { retime, simulate } from "../../pipelab/plots/frontend/simulate.js";
import { floats, integers } from "../../pipelab/plots/frontend/timeline.js";

const differences = [];

/** Notes where two values differ: numbers by more than `relative` (of the larger, or of 1). */
function compare(where, found, expected, relative) {
  if (typeof expected === "number" && typeof found === "number") {
    const room = relative * Math.max(1, Math.abs(expected));
    if (Math.abs(found - expected) <= room) return;
  } else if (expected !== null && typeof expected === "object") {
    const [mine, theirs] = [found, expected].map((value) => Object.keys(value ?? {}).sort());
    compare(`${where}: keys`, `${mine}`, `${theirs}`);
    for (const key of theirs) compare(`${where}.${key}`, found?.[key], expected[key], relative);
    return;
  } else if (found === expected) return;
  differences.push(`${where}: ${found} instead of ${expected}`);
}

const rounded = (values) => [...values].map(Math.fround);

/** A message without its arrays, which are compared by themselves. */
function words(message) {
  const { bars, memory, needs, text, formula, numbers, ...rest } = message;
  return { ...rest, numbers: numbers.filter(({ key }) => key !== "lower_bound") };
}

const { words: told, cases } = JSON.parse(readFileSync(process.argv[2]));
for (const { name, base, settings, expected } of cases) {
  const { started, ended } = simulate(base, settings);
  compare(`${name}: started`, [...started], expected.started, 1e-9);
  compare(`${name}: ended`, [...ended], expected.ended, 1e-9);
  const message = retime(base, settings);
  compare(name, words(message), words(expected.message), 1e-9);
  for (const [key, read] of Object.entries({ bars: floats, memory: floats, needs: integers }))
    compare(`${name}: ${key}`, rounded(read(message[key])), [...read(expected.message[key])], 2e-7);
  const { intervals, ...idle } = causesOf(base, settings, told.looks);
  const { intervals: theirs, ...rest } = expected.causes;
  compare(`${name}: causes`, idle, rest, 1e-9);
  compare(`${name}: intervals`, [...intervals], [...floats(theirs)], 2e-7);
  const path = criticalPath(base, settings);
  compare(`${name}: path`, [...path.steps], [...floats(expected.path.steps)], 2e-7);
  for (const { rank, moment, about } of expected.explanations)
    compare(`${name}: gap`, explainGap(base, settings, told, rank, moment), about, 1e-9);
}
console.log(JSON.stringify({ differences: differences.slice(0, 20) }));
