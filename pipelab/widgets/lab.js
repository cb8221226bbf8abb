// The live lab's entry: puts the parts together and ties them to the Python widget.
import { control, element } from "../plots/frontend/dom.js";
import { time } from "../plots/frontend/format.js";
import { Viewer } from "../plots/frontend/viewer.js";
import { shareCeiling } from "../plots/frontend/strips.js";
import { floats, unpack } from "../plots/frontend/timeline.js";
import {
  causes as causesOf,
  criticalPath,
  explain as explainGap,
} from "../plots/frontend/causes.js";
import { comparison } from "./compare.js";
import { controls, problemBox } from "./controls.js";
import { formulaBox } from "./formula.js";
import { goalStrip } from "./goals.js";
import { headline } from "./headline.js";
import { breakdown, explanationBox } from "./idle.js";
import { kernelNotice } from "./kernel.js";
import { output } from "./output.js";
import { predictor, sameSettings } from "./predictor.js";
import { request, setTraits } from "./requests.js";
import { tabs } from "./tabs.js";
import { training } from "./training.js";

/** The critical path in words. */
function pathInWords(path, timeline) {
  const steps = path.steps ? floats(path.steps).length / 3 : 0;
  if (!steps || !timeline) return "";
  const whole = time(timeline.end, timeline.unit);
  return (
    `${steps} actions, one after the other, take ${whole}: they decide the time of the step. ` +
    "To shorten it, one of them must become shorter, or leave the chain."
  );
}

/** The schedule in a grid to edit by hand: a widget of its own, shown where the lab ends. */
function editing(model) {
  const title = "edit this schedule by hand: a grid of actions below, where every move is checked";
  const button = control(
    "button",
    { class: "pl-button", type: "button", title, onclick: () => request(model, "edit") },
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

export function render({ model, el }) {
  const viewer = new Viewer();
  const settings = controls(model);
  const real = training(model);
  const problem = problemBox(model);
  const goals = goalStrip(model);
  const big = headline(model);
  const pins = comparison(model, viewer, unpack);
  const idle = breakdown();
  const formula = formulaBox();
  const explanation = explanationBox(() => explain({}));
  const files = output(model, viewer);
  const editor = editing(model);
  const path = element("p", { class: "pl-caption" });
  const under = tabs(
    [
      { name: "numbers", label: "All numbers", node: element("div", {}, viewer.numbers) },
      {
        name: "formula",
        label: "Formula",
        title: "the closed form of this schedule, with its numbers",
        node: element("div", {}, formula.node),
      },
      {
        name: "causes",
        label: "Why idle?",
        title: "marks all idle time by its cause",
        node: element("div", {}, idle.node),
      },
      {
        name: "path",
        label: "Critical path",
        title: "shows the chain of actions that decides the time of the step",
        node: element("div", {}, path),
      },
      { name: "run", label: "Real run", title: "loss, steps, gap", node: real.panel },
      { name: "table", label: "As a table", node: element("div", {}, viewer.table.node) },
      { name: "files", label: "Save and share", node: files.node },
    ],
    (open) => {
      viewer.table.open(open === "table");
      const wanted = ["causes", "path"].filter((panel) => panel === open);
      if (String(wanted) === String(model.get("panels"))) return;
      setTraits(model, { panels: wanted });
    },
  );
  const panels = () => {
    const [open] = model.get("panels").slice(-1);
    if (open) under.open(open);
  };
  viewer.picture.hint +=
    " Click an idle gap, or press Enter on it (↑ ↓ choose the rank), to ask why.";
  const ahead = predictor(model);
  const kernel = kernelNotice(
    model,
    () => ((needs.inert = files.requests.inert = kernel.gone()), showSoon()),
  );
  let asked = null; // a gap to ask the kernel about, once it knows these settings
  const askSoon = () => {
    if (asked && ahead.exact()) request(model, "explain", asked);
    if (ahead.exact()) asked = null;
  };
  viewer.picture.base.addEventListener("pipelab-gap", ({ detail }) => {
    asked = detail;
    askSoon();
    if (detail.source !== "predicted" || !ahead.current()?.needs) return;
    const { rank, moment } = detail; // at once; what would help comes from the kernel
    const [message, settings] = [ahead.current(), ahead.settings()];
    if (message.unit === "")
      explain(explainGap(message, settings, model.get("words"), rank, moment));
  });

  let unit = "";
  const explain = (about) => {
    explanation.show(about, unit);
    viewer.picture.marks.gap = about.cause ? about : null;
    viewer.picture.drawOverlay();
  };

  let dark;
  const showCauses = () => {
    dark = viewer.picture.colours?.dark; // known once the picture has been painted
    idle.show(marks.causes ?? {}, unit, dark);
  };
  let marks = { causes: null, path: null };
  /** Idle time and critical path: of a prediction at once, of a run from the kernel. */
  const marksOf = (message, measured) => {
    const open = model.get("panels");
    const wanted = { causes: open.includes("causes"), path: open.includes("path") };
    if (measured || !message?.needs || message.unit !== "") {
      const [causes, path] = ["causes", "path"].map((name) => model.get(name));
      return {
        causes: wanted.causes && causes.totals ? causes : null,
        path: wanted.path && path.steps ? path : null,
      };
    }
    const settings = ahead.settings();
    const { looks } = model.get("words");
    return {
      causes: wanted.causes ? causesOf(message, settings, looks) : null,
      path: wanted.path ? criticalPath(message, settings) : null,
    };
  };
  viewer.picture.base.addEventListener("pipelab-painted", () => {
    if (viewer.picture.colours.dark !== dark) showCauses();
  });

  // What the last move changed: a slider that is dragged, or a key that repeats, is one move.
  const PAUSE = 400;
  let before = null;
  let last = null;
  let moved = 0;
  const remember = (timelines) => {
    const now = performance.now();
    const [shown] = timelines;
    // the kernel's answer to what is already shown is not another move
    const answer = last && shown?.settings && sameSettings(last.settings, shown.settings);
    if (!answer) {
      if (!held && now - moved > PAUSE) before = last;
      moved = now;
    }
    last = timelines.length === 1 ? timelines[0] : null;
    viewer.picture.ghost = timelines.length === 1 && before !== last ? before : null;
  };

  const unpacked = new WeakMap(); // so that a message that is shown again is the same timeline
  const once = (message) => {
    if (!unpacked.has(message)) unpacked.set(message, unpack(message));
    return unpacked.get(message);
  };
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
    const message = ahead.current();
    const run = ahead.exact() && model.get("run_picture").bars ? model.get("run_picture") : null;
    const shown = [message, run].filter(Boolean);
    const timelines = shown.map(once);
    const current = timelines[0];
    unit = current?.unit ?? "";
    const others = pins.pinned(current);
    if (shown.length !== drawn.length || shown.some((one, i) => one !== drawn[i]))
      remember(timelines);
    drawn = shown;
    const { ghost } = viewer.picture; // its line must be seen, and a strip that sinks must sink
    levels = shareCeiling([...timelines, ...others, ...(ghost ? [ghost] : [])], held ? levels : {});
    const end = Math.max(
      0,
      ...timelines.map((t) => t.end),
      ...others.filter((pin) => pin.unit === unit).map((pin) => pin.end),
    );
    const gap = ahead.exact() ? model.get("explanation") : {};
    marks = marksOf(message, run);
    viewer.picture.marks = { ...marks, gap: gap.cause ? gap : null };
    viewer.show(timelines, end);
    big.show(timelines, before);
    foot.hidden = under.node.hidden = !current;
    pins.show(current, others, end);
    showCauses();
    explanation.show(gap, unit);
    formula.show(current?.formula, unit, current?.looks);
    path.textContent = pathInWords(marks.path ?? {}, timelines.at(-1));
    const missing = { formula: !current?.formula?.text, run: !real.panel.hasChildNodes() };
    under.offer(TABS.filter((name) => !missing[name]));
    goals.follow(current);
    kernel.waits(!ahead.exact() && !model.get("problem"));
    real.lost(kernel.gone());
    askSoon();
    files.say(message?.text ?? model.get("schedule"));
  };
  const TABS = ["numbers", "formula", "causes", "path", "run", "table", "files"];
  let drawn = [];

  let due = false;
  const showSoon = () => {
    if (due) return; // Python changes several traits in one message: draw once
    due = true;
    queueMicrotask(() => {
      due = false;
      show();
    });
  };

  const needs = element("span", { class: "pl-needs" }, ...real.nodes, pins.button, editor.button);
  needs.hidden = files.requests.hidden = Boolean(model.alone);
  const foot = element("div", { class: "pl-foot" }, viewer.readout, viewer.legend);
  el.classList.add("pipelab", "pl-lab");
  el.append(
    goals.node,
    settings.row,
    settings.about,
    settings.rest,
    problem.node,
    kernel.node,
    big.node,
    viewer.picture.node,
    element(
      "div",
      { class: "pl-bar" },
      element("span", { class: "pl-play-bar" }, ...viewer.buttons.nodes),
      element("span", { class: "pl-space" }),
      needs,
    ),
    real.message,
    foot,
    pins.node,
    explanation.node,
    under.node,
    editor.node,
  );

  const redraw = Object.fromEntries(
    ["predicted", "run_picture", "causes", "path", "pins", ...Object.keys(ahead.settings())].map(
      (name) => [`change:${name}`, showSoon],
    ),
  );
  const watches = [
    ...settings.watch,
    real.watch,
    ahead.watch,
    kernel.watch,
    problem.watch,
    files.watch,
    editor.watch,
    goals.watch,
    redraw,
    {
      "change:explanation": () => explain(model.get("explanation")),
      "change:panels": () => (panels(), showSoon()),
      "change:progress": showSoon,
    },
  ];
  for (const watch of watches)
    for (const [event, act] of Object.entries(watch)) model.on(event, act);
  show();
  panels();
  viewer.start();
  return () => {
    el.removeEventListener("pointerdown", hold);
    window.removeEventListener("pointerup", release);
    viewer.picture.detach();
    pins.detach();
    ahead.close();
    kernel.close();
    for (const watch of watches)
      for (const [event, act] of Object.entries(watch)) model.off(event, act);
  };
}

export default { render };
