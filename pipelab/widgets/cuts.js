// The entry of the cuts: a profiled model in a row, cuts that move, and what follows from them at
// once: the slowest rank, the traffic, the timeline. The kernel's answer takes its place.
import { control, element } from "../plots/frontend/dom.js";
import { bytes, short } from "../plots/frontend/format.js";
import { cutsOf, recut } from "../plots/frontend/recut.js";
import { peak, shareCeiling } from "../plots/frontend/strips.js";
import { unpack } from "../plots/frontend/timeline.js";
import { Viewer } from "../plots/frontend/viewer.js";
import { cutRow, digits, milliseconds, rankBars, verdictOf } from "./cutrow.js";
import { goalStrip } from "./goals.js";
import { kernelNotice } from "./kernel.js";
import { setTraits } from "./requests.js";
import { drawnFrom } from "./switches.js";
import { training } from "./training.js";

const KERNEL = {
  gone:
    "The kernel that made this picture has ended. Cuts still move; for real runs and goals to be " +
    "kept, run this cell again.",
  busy: "The kernel is busy with another cell: cuts move, real runs wait for it.",
};
const NAMES = { even: "even", best: "best", parameters: "by parameters" };

/** A big number with what it was before the last move, and a line under it. */
function bigFact(label, value, under, before) {
  const change = before && before !== value ? `was ${before}` : "";
  return element(
    "div",
    { class: "pl-big" },
    element("span", { class: "pl-big-label" }, label),
    element("b", {}, value),
    element("span", { class: "pl-big-change" }, change),
    element("span", { class: "pl-caption" }, under),
  );
}

/** What goals can be about; the same as Cuts.facts. */
export function factsOfCuts(found, about) {
  return {
    above_best: found.slowest / about.slowest.best - 1,
    gain: 1 - found.slowest / about.slowest.even,
    traffic: about.traffic.even ? found.traffic / about.traffic.even : 1,
  };
}

/** The runs so far, predicted beside measured. */
function runsSoFar(ran) {
  const most = Math.max(...ran.flatMap(({ measured, predicted }) => [measured, predicted]));
  const bar = (time, kind) =>
    element(
      "div",
      { class: `pl-ran-${kind}` },
      element("i", { style: `width: ${(80 * time) / most}%` }),
      element("span", {}, `${short(time)} ms ${kind}`),
    );
  return ran.map(({ sizes, name, paced, measured, predicted }) =>
    element(
      "div",
      { class: "pl-ran" },
      element("span", {}, element("b", {}, sizes.join(", ")), ` ${name}${paced ? "" : ", raw"}`),
      element("div", {}, bar(predicted, "predicted"), bar(measured, "measured")),
    ),
  );
}

function renderCuts({ model, el }) {
  const about = model.get("about");
  const viewer = new Viewer();
  const real = training(model);
  const goals = goalStrip(model);
  const ranks = rankBars();
  const big = element("div", { class: "pl-headline", role: "status", ariaLabel: "main numbers" });
  const said = element("p", { class: "pl-cut-said", role: "status" });
  const keys = [
    ["pl-cut-F", "F forward"],
    ["pl-cut-I", "I input gradient"],
    ["pl-cut-W", "W weight gradient"],
    ["pl-parameter_bytes", "weights"],
    ["pl-activation_bytes", "saved activations"],
  ].map(([look, label]) =>
    element("span", { class: "pl-key" }, element("span", { class: `pl-swatch ${look}` }), label),
  );
  const ran = element("div", { class: "pl-runs" });
  const write = (sizes) => setTraits(model, { sizes });
  const row = cutRow(about, write);
  const buttons = Object.entries(NAMES).map(([name, label]) =>
    control(
      "button",
      {
        class: "pl-button",
        type: "button",
        title: `cut it so: ${about.ways[name].join(", ")} layers`,
        onclick: () => write(about.ways[name]),
      },
      label[0].toUpperCase() + label.slice(1),
    ),
  );

  let last = null; // {sizes, facts} as shown; before a move they are what it was
  let before = null;
  const show = () => {
    const sizes = model.get("sizes");
    const found = cutsOf(about, sizes);
    const message = model.get("predicted");
    const exact = String(message.sizes) === String(sizes);
    const shown = exact ? message : recut(message, about, found);
    const run = exact && model.get("run_picture").bars ? model.get("run_picture") : null;
    const timelines = [shown, run].filter(Boolean).map((one) => unpack(one));
    timelines[0].settings = factsOfCuts(found, about);
    shareCeiling(timelines);
    viewer.show(timelines);
    const kept = found.ranks.map((rank, i) =>
      exact && message.bytes
        ? message.bytes[i].total
        : about.copies * rank.parameter_bytes + peak(timelines[0], i),
    );

    const allowed = model.get("ghosts");
    const done = model.get("goals").every(({ reached }) => reached);
    const visible = Object.keys(NAMES).filter(
      (name) => allowed.includes(name) && (name !== "best" || done),
    );
    row.show(
      sizes,
      found,
      visible.map((name) => [NAMES[name], about.ways[name]]),
    );
    const marks = visible
      .filter((name) => name !== "parameters")
      .map((name) => [name, about.slowest[name]]);
    ranks.show(found, marks, kept);
    buttons.forEach((button, i) => {
      const name = Object.keys(NAMES)[i];
      button.hidden = !visible.includes(name);
      button.setAttribute("aria-pressed", String(String(sizes) === String(about.ways[name])));
    });
    said.textContent = verdictOf(found);

    const equal = found.ranks.reduce((all, { seconds }) => all + seconds, 0) / found.ranks.length;
    const step = timelines.at(-1).end;
    const facts = {
      slowest: milliseconds(found.slowest),
      step: `${Number(step.toPrecision(3))} ms`,
      traffic: bytes(found.traffic),
      fullest: bytes(Math.max(...kept)),
    };
    if (last && String(last.sizes) !== String(sizes)) before = last.facts;
    last = { sizes, facts };
    const old = before ?? {};
    const slowed = exact && message.slower > 1;
    big.replaceChildren(
      bigFact(
        "slowest rank",
        facts.slowest,
        `a micro-batch · ${digits(found.slowest / equal)} × an equal share`,
        old.slowest,
      ),
      bigFact(
        slowed ? `time per step, ${short(message.slower)} × slower` : "time per step",
        facts.step,
        run
          ? `measured; predicted ${short(timelines[0].end)} ms`
          : `${about.microbatches} micro-batches, ${about.schedule}`,
        run ? undefined : old.step,
      ),
      bigFact("traffic", facts.traffic, "between ranks, in a step", old.traffic),
      bigFact(
        "fullest rank",
        facts.fullest,
        `all that it holds, ${about.optimizer} too`,
        old.fullest,
      ),
    );
    goals.follow(timelines[0]);
    ran.replaceChildren(...runsSoFar(model.get("ran").length ? model.get("ran") : []));
    ran.hidden = !model.get("ran").length;
  };

  const needs = element("span", { class: "pl-needs" }, ...real.nodes);
  const kernel = kernelNotice(
    model,
    () => ((needs.inert = kernel.gone()), real.lost(kernel.gone())),
    KERNEL,
  );
  needs.hidden = !about.trains;
  const table = element(
    "details",
    { class: "pl-more" },
    control("summary", {}, "As a table"),
    viewer.table.node,
  );
  table.addEventListener("toggle", () => viewer.table.open(table.open));
  el.classList.add("pipelab", "pl-lab", "pl-cuts");
  el.append(
    goals.node,
    kernel.node,
    big,
    row.node,
    element("div", { class: "pl-cut-foot" }, said, element("div", { class: "pl-legend" }, ...keys)),
    ranks.node,
    viewer.picture.node,
    element(
      "div",
      { class: "pl-bar" },
      ...buttons,
      element("span", { class: "pl-space" }),
      ...viewer.buttons.nodes,
      needs,
    ),
    real.message,
    ran,
    element("div", { class: "pl-foot" }, viewer.readout, viewer.legend),
    table,
  );
  const drawn = ["sizes", "predicted", "run_picture", "ran", "goals", "ghosts", "progress"];
  const end = drawnFrom(model, drawn, show, [goals, real, kernel]);
  viewer.picture.attach();
  return () => {
    viewer.picture.detach();
    kernel.close();
    end();
  };
}

export default { render: renderCuts };
