// The live lab's entry: puts the parts together and ties them to the Python widget.
import { element } from "../plots/frontend/dom.js";
import { Viewer } from "../plots/frontend/viewer.js";
import { unpack } from "../plots/frontend/timeline.js";
import { controls } from "./controls.js";
import { training } from "./training.js";

function render({ model, el }) {
  const viewer = new Viewer();
  const settings = controls(model);
  const run = training(model);
  const problem = element("div", { class: "pl-problem", role: "alert" });

  const show = () => {
    const messages = [model.get("predicted"), model.get("measured")].filter((message) => message.bars);
    problem.textContent = model.get("problem");
    viewer.show(messages.map(unpack));
  };

  let due = false;
  const showSoon = () => {
    if (due) return; // Python changes several traits in one message: draw once
    due = true;
    queueMicrotask(() => {
      due = false;
      show();
    });
  };

  el.classList.add("pipelab", "pl-lab");
  el.append(
    element("div", { class: "pl-controls" }, ...settings.nodes),
    settings.about,
    element("div", { class: "pl-bar" }, ...run.nodes, element("span", { class: "pl-space" }), ...viewer.buttons.nodes),
    run.message, problem, viewer.picture.node,
    element("div", { class: "pl-foot" }, viewer.readout, viewer.legend),
    element("div", { class: "pl-results" }, viewer.numbers, run.panel),
  );

  const watches = [...settings.watch, run.watch, { "change:predicted": showSoon, "change:measured": showSoon, "change:problem": showSoon }];
  for (const watch of watches) for (const [event, act] of Object.entries(watch)) model.on(event, act);
  show();
  viewer.start();
  return () => {
    viewer.picture.detach();
    for (const watch of watches) for (const [event, act] of Object.entries(watch)) model.off(event, act);
  };
}

export default { render };
