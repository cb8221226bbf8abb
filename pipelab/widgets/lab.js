// The live lab's entry: puts the parts together and ties them to the Python widget.
import { control, element } from "../plots/frontend/dom.js";
import { Viewer } from "../plots/frontend/viewer.js";
import { shareCeiling } from "../plots/frontend/strips.js";
import { unpack } from "../plots/frontend/timeline.js";
import { comparison } from "./compare.js";
import { controls, problemBox } from "./controls.js";
import { formulaBox } from "./formula.js";
import { breakdown, explanationBox } from "./idle.js";
import { output } from "./output.js";
import { training } from "./training.js";

const PANELS = [
  ["causes", "Why idle?", "marks all idle time by its cause"],
  ["path", "Critical path", "outlines the chain of actions that decides the makespan"],
];

/** A button that opens one of Python's panels: what it shows is computed only while it is open. */
function toggle(model, [panel, label, title]) {
  const button = control("button", { class: "pl-button", type: "button", title }, label);
  const follow = () => (button.ariaPressed = String(model.get("panels").includes(panel)));
  button.addEventListener("click", () => {
    const open = model.get("panels");
    model.set(
      "panels",
      open.includes(panel) ? open.filter((other) => other !== panel) : [...open, panel],
    );
    model.save_changes();
  });
  follow();
  return { node: button, watch: { "change:panels": follow } };
}

/** The schedule in a grid to edit by hand: a widget of its own, shown where the lab ends. */
function editing(model) {
  const title = "edit this schedule by hand: a grid of actions below, where every move is checked";
  const button = control(
    "button",
    { class: "pl-button", type: "button", title, onclick: () => model.send({ action: "edit" }) },
    "Edit by hand",
  );
  const notice = element("p", { role: "alert", hidden: true });
  const place = element("div", {});
  const node = element("div", { class: "pl-editor" }, notice, place);
  const follow = async () => {
    const reference = model.get("editor");
    notice.hidden = true;
    place.replaceChildren();
    if (!reference) return;
    const editor = await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""));
    const view = await model.widget_manager.create_view(editor);
    place.replaceChildren(view.el);
    place.scrollIntoView({ block: "nearest" });
  };
  const told = ({ notice: text }) => {
    if (!text) return;
    notice.hidden = false;
    notice.textContent = text;
  };
  follow();
  return { button, node, watch: { "change:editor": follow, "msg:custom": told } };
}

function render({ model, el }) {
  const viewer = new Viewer();
  const settings = controls(model);
  const run = training(model);
  const problem = problemBox(model);
  const toggles = PANELS.map((panel) => toggle(model, panel));
  const pins = comparison(model, viewer, unpack);
  const idle = breakdown();
  const formula = formulaBox();
  const explanation = explanationBox(() => explain({}));
  const files = output(model, viewer);
  const editor = editing(model);
  viewer.picture.hint +=
    " Click an idle gap, or press Enter on it (↑ ↓ choose the rank), to ask why.";
  viewer.picture.base.addEventListener("pipelab-gap", ({ detail }) =>
    model.send({ action: "explain", ...detail }),
  );

  let unit = "";
  const explain = (about) => {
    explanation.show(about, unit);
    viewer.picture.marks.gap = about.cause ? about : null;
    viewer.picture.drawOverlay();
  };

  let dark;
  const showCauses = () => {
    dark = viewer.picture.colours?.dark; // known once the picture has been painted
    idle.show(model.get("causes"), unit, dark);
  };
  viewer.picture.base.addEventListener("pipelab-painted", () => {
    if (viewer.picture.colours.dark !== dark) showCauses();
  });

  let levels = {};
  let held = false; // a slider: meanwhile the scale of the memory only grows
  const hold = ({ target }) => (held = target.type === "range");
  const release = () => {
    if (held) showSoon();
    held = false;
  };
  el.addEventListener("pointerdown", hold);
  window.addEventListener("pointerup", release);

  const show = () => {
    const timelines = [model.get("predicted"), model.get("measured")]
      .filter((message) => message.bars)
      .map(unpack);
    const current = timelines[0];
    unit = current?.unit ?? "";
    const others = pins.pinned(current);
    levels = shareCeiling([...timelines, ...others], held ? levels : {});
    const end = Math.max(
      0,
      ...timelines.map((t) => t.end),
      ...others.filter((pin) => pin.unit === unit).map((pin) => pin.end),
    );
    const [causes, path, gap] = ["causes", "path", "explanation"].map((name) => model.get(name));
    viewer.picture.marks = {
      causes: causes.totals ? causes : null,
      path: path.steps ? path : null,
      gap: gap.cause ? gap : null,
    };
    viewer.show(timelines, end);
    foot.hidden = results.hidden = !current;
    pins.show(current, others, end);
    showCauses();
    explanation.show(gap, unit);
    formula.show(current?.formula, unit, current?.looks);
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

  const foot = element("div", { class: "pl-foot" }, viewer.readout, viewer.legend);
  const results = element(
    "div",
    { class: "pl-results" },
    element("div", {}, viewer.numbers, formula.node),
    run.panel,
  );
  el.classList.add("pipelab", "pl-lab");
  el.append(
    element("div", { class: "pl-controls" }, ...settings.nodes),
    settings.about,
    settings.more,
    element(
      "div",
      { class: "pl-bar" },
      ...run.nodes,
      element("span", { class: "pl-space" }),
      ...toggles.map(({ node }) => node),
      pins.button,
      editor.button,
      element("span", { class: "pl-play-bar" }, ...viewer.buttons.nodes),
    ),
    run.message,
    problem.node,
    viewer.picture.node,
    foot,
    pins.node,
    explanation.node,
    idle.node,
    results,
    editor.node,
    files.node,
    viewer.table.node,
  );

  const redraw = Object.fromEntries(
    ["predicted", "measured", "causes", "path", "pins"].map((name) => [`change:${name}`, showSoon]),
  );
  const watches = [
    ...settings.watch,
    run.watch,
    problem.watch,
    files.watch,
    editor.watch,
    ...toggles.map(({ watch }) => watch),
    redraw,
    { "change:explanation": () => explain(model.get("explanation")) },
  ];
  for (const watch of watches)
    for (const [event, act] of Object.entries(watch)) model.on(event, act);
  show();
  viewer.start();
  return () => {
    el.removeEventListener("pointerdown", hold);
    window.removeEventListener("pointerup", release);
    viewer.picture.detach();
    pins.detach();
    for (const watch of watches)
      for (const [event, act] of Object.entries(watch)) model.off(event, act);
  };
}

export default { render };
