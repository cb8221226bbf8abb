// Compares the front end's cuts with Python's: node cuts_equal_to_python.mjs FILE, with cases that
// test_cuts.py wrote. Prints {differences}, as lines of text.
import { readFileSync } from "node:fs";
import { cutsOf, recut } from "../../pipelab/plots/frontend/recut.js";
import { floats } from "../../pipelab/plots/frontend/timeline.js";
import { factsOfCuts } from "../../pipelab/widgets/cuts.js";

const differences = [];

function compare(where, found, expected, relative = 1e-9) {
  if (typeof expected === "object" && expected !== null) {
    for (const key of Object.keys(expected))
      compare(`${where}.${key}`, found?.[key], expected[key], relative);
    return;
  }
  const near = Math.abs(found - expected) <= relative * Math.max(1e-6, Math.abs(expected));
  if (found !== expected && !near) differences.push(`${where}: ${found} instead of ${expected}`);
}

for (const { name, about, base, sizes, expected } of JSON.parse(readFileSync(process.argv[2]))) {
  const found = cutsOf(about, sizes);
  compare(
    `${name}: stages`,
    found.stages.map(({ seconds }) => seconds),
    expected.stage_seconds,
  );
  compare(
    `${name}: ranks`,
    found.ranks.map(({ seconds }) => seconds),
    expected.rank_seconds,
  );
  compare(`${name}: slowest`, found.slowest, expected.slowest);
  compare(`${name}: traffic`, found.traffic, expected.traffic);
  compare(`${name}: facts`, factsOfCuts(found, about), expected.facts);
  const message = recut(base, about, found);
  for (const key of ["bars", "memory"])
    compare(`${name}: ${key}`, [...floats(message[key])], [...floats(expected.message[key])], 1e-6);
  for (const key of ["end", "step", "memory_peak"])
    compare(`${name}: ${key}`, message[key], expected.message[key], 1e-6);
  const numbers = Object.fromEntries(message.numbers.map(({ key, value }) => [key, value]));
  for (const { key, value } of expected.message.numbers)
    compare(`${name}: ${key}`, numbers[key], value, 1e-6);
}
console.log(JSON.stringify({ differences: differences.slice(0, 20) }));
