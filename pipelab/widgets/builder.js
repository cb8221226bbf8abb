// Building a schedule by hand: a row of actions per rank, and what may come next. Python judges
// every move.
import { control, element } from "../plots/frontend/dom.js";
import { memory, number, short, ticks } from "../plots/frontend/format.js";
import { Viewer } from "../plots/frontend/viewer.js";
import { unpack } from "../plots/frontend/timeline.js";
import { goalStrip } from "./goals.js";
import { request } from "./requests.js";
import { training } from "./training.js";

const KEYS = "←→ walk, Enter places, Shift + ←→ moves, Delete takes away";

/** The class of an action's cell, by its kind: "2F0" -> "pl-F". */
export function kindOf(action) {
  return `pl-${action.match(/[A-Z]+/)[0]}`;
}

/** What a score says: [label, value, par, bound] as text, and whether it is as good as par. */
export function scoreRows(
  { makespan, peak, par, par_peak: parPeak, bound, par_name: name },
  complete,
  { time_name: timeName = "makespan", memory_unit: unit = "activations" } = {},
) {
  const verdict = (value, other) =>
    !complete ? "" : value <= other * (1 + 1e-9) ? "as good or better" : "worse";
  return [
    {
      label: timeName,
      value: short(makespan),
      par: `${name} ${short(par)}`,
      bound: short(bound),
      verdict: verdict(makespan, par),
    },
    {
      label: "peak memory",
      value: memory(peak, unit),
      par: `${name} ${memory(parPeak, unit)}`,
      bound: "",
      verdict: verdict(peak, parPeak),
    },
  ];
}

/** The next cell for an arrow key in a grid of rows of `lengths`: [row, column]. */
export function walk(key, row, column, lengths) {
  const rows = lengths.length;
  if (key === "ArrowUp" || key === "ArrowDown") {
    const to = Math.min(rows - 1, Math.max(0, row + (key === "ArrowDown" ? 1 : -1)));
    return [to, Math.min(column, Math.max(0, lengths[to] - 1))];
  }
  return [row, Math.min(lengths[row] - 1, Math.max(0, column + (key === "ArrowRight" ? 1 : -1)))];
}

const LANE = 32; // pixels

/** The end of the axis: what stands, par and a little room for what comes next. */
export function horizonOf({ times, legal_times: legalTimes, score }) {
  const ends = [...times, ...legalTimes].flat().map(([, end]) => end);
  return Math.max(score.par, score.bound, ...ends) * 1.02 || 1;
}

/** What a rank holds over time, with its peak and the limit: [name, strip]. */
function strip(now, rank) {
  const { memory: held, memory_unit: unit, limit, score } = now;
  const share = 100 / horizonOf(now);
  const top = Math.max(limit ?? 0, score.par_peak, ...held.flat().map(([, level]) => level)) || 1;
  const steps = held[rank];
  const boxes = steps.map(([time, level], i) => {
    const until = steps[i + 1]?.[0] ?? time;
    const height = (100 * level) / top;
    return element("span", {
      style: `left: ${time * share}%; width: ${(until - time) * share}%; height: ${height}%;`,
    });
  });
  if (limit !== null)
    boxes.push(element("i", { style: `bottom: ${(100 * limit) / top}%`, title: "the limit" }));
  const peak = Math.max(0, ...steps.map(([, level]) => level));
  return [
    element("span", { class: "pl-grid-peak" }, memory(peak, unit)),
    element("div", { class: "pl-grid-strip", ariaHidden: "true" }, ...boxes),
  ];
}

function axis(now) {
  const end = horizonOf(now);
  const marks = ticks(end, 12).map((mark) =>
    element("span", { style: `left: ${(100 * mark) / end}%` }, short(mark)),
  );
  return element(
    "div",
    { class: "pl-grid-row", ariaHidden: "true" },
    element("span", { class: "pl-grid-name" }),
    element("div", { class: "pl-grid-axis" }, ...marks),
  );
}

function grid(model, send) {
  const node = element("div", {
    class: "pl-grid",
    role: "grid",
    ariaLabel: `actions of each rank; ${KEYS}`,
  });
  let focus = null; // [rank, column] to return to after Python's answer
  let dragged = null;

  /** Where [start, end] stands on the axis, as CSS. */
  const at = ([start, end]) => {
    const share = 100 / horizonOf(model.get("grid"));
    return `left: ${start * share}%; width: ${(end - start) * share}%;`;
  };

  const cell = (action, rank, column, legal, style) => {
    const slot = control(
      "button",
      {
        class: `pl-cell ${kindOf(action)}${legal ? " pl-legal" : ""}`,
        type: "button",
        draggable: true,
        style,
        ariaLabel: legal
          ? `place ${action} on rank ${rank}`
          : `${action}, rank ${rank}, step ${column}`,
      },
      action,
    );
    slot.addEventListener(
      "click",
      () => legal && act({ action: "place", text: action }, rank, column + 1),
    );
    slot.addEventListener("dragstart", (event) => {
      dragged = { action, rank, column, legal };
      event.dataTransfer.setData("text/plain", action);
    });
    slot.addEventListener("dragover", (event) => event.preventDefault());
    slot.addEventListener(
      "drop",
      (event) => (
        event.preventDefault(),
        event.stopPropagation(),
        drop(rank, legal ? Infinity : column)
      ),
    );
    slot.addEventListener("keydown", (event) => key(event, { action, rank, column, legal }));
    return slot;
  };

  const act = (message, rank, column) => {
    focus = [rank, column];
    send(message);
  };

  const drop = (rank, column) => {
    if (!dragged) return;
    if (dragged.legal || dragged.rank !== rank)
      send({ action: "place", text: dragged.action, rank });
    else
      act(
        {
          action: "move",
          rank,
          step: dragged.column,
          to: Math.min(column, model.get("grid").rows[rank].length - 1),
        },
        rank,
        column,
      );
    dragged = null;
  };

  const key = (event, { rank, column, legal }) => {
    const { rows, legal: next } = model.get("grid");
    const lengths = rows.map((row, i) => row.length + next[i].length);
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      if (!legal) act({ action: "remove", rank, step: column }, rank, column);
    } else if (event.shiftKey && sideways && !legal) {
      const to = Math.min(rows[rank].length - 1, Math.max(0, column + sideways));
      if (to !== column) act({ action: "move", rank, step: column, to }, rank, to);
    } else if (event.key.startsWith("Arrow")) {
      const [r, c] = walk(event.key, rank, column, lengths);
      node.children[r].querySelectorAll(".pl-cell")[c]?.focus();
    } else return; // Enter and Space click the button
    event.preventDefault();
    event.stopPropagation();
  };

  const show = () => {
    const { rows, legal, hint, times, legal_times: legalTimes, task } = model.get("grid");
    const lines = rows.map((row, rank) => {
      const cells = row.map((action, i) => cell(action, rank, i, false, at(times[rank][i])));
      // what may come next shares the height: more than one can start at the same time
      const part = LANE / Math.max(1, legal[rank].length);
      legal[rank].forEach((action, i) => {
        const style = `${at(legalTimes[rank][i])} top: ${i * part}px; height: ${part - 1}px;`;
        cells.push(cell(action, rank, row.length + i, true, style));
      });
      const over = task.over.includes(rank) ? " pl-over" : "";
      const line = element(
        "div",
        { class: `pl-grid-row${over}`, role: "row" },
        element("span", { class: "pl-grid-name" }, `rank ${rank}`),
        element("div", { class: "pl-grid-track" }, ...cells),
        ...strip(model.get("grid"), rank),
      );
      line.addEventListener("dragover", (event) => event.preventDefault());
      line.addEventListener("drop", (event) => (event.preventDefault(), drop(rank, Infinity)));
      return line;
    });
    node.replaceChildren(...lines, axis(model.get("grid")));
    for (const slot of node.querySelectorAll(".pl-legal"))
      slot.classList.toggle("pl-hinted", slot.textContent === hint);
    if (!focus) return;
    const cells = node.children[focus[0]].querySelectorAll(".pl-cell");
    (cells[Math.min(focus[1], cells.length - 1)] ?? node.querySelector(".pl-legal"))?.focus();
    focus = null;
  };
  return { node, show };
}

/** Import and export: the schedule as CSV in a text box. */
function exchange(model, send) {
  const text = control("textarea", {
    class: "pl-csv",
    rows: 5,
    ariaLabel: "the schedule as CSV",
    spellcheck: false,
  });
  const read = control(
    "button",
    {
      class: "pl-button pl-small",
      type: "button",
      onclick: () => send({ action: "load", csv: text.value }),
    },
    "Read this CSV",
  );
  const save = control("button", { class: "pl-button pl-small", type: "button" }, "Save as file");
  save.addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([model.get("grid").csv], { type: "text/csv" }));
    element("a", { href: address, download: "schedule.csv" }).click();
    URL.revokeObjectURL(address);
  });
  const node = element(
    "details",
    { class: "pl-more" },
    control("summary", {}, "CSV: read and save"),
    text,
    element("div", { class: "pl-bar" }, read, save),
  );
  return { node, show: () => (text.value = model.get("grid").csv) };
}

function scoreTable(now) {
  const { score, complete, left, name } = now;
  const rows = scoreRows(score, complete, now).map(({ label, value, par, bound, verdict }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, label),
      element("td", {}, value),
      element("td", {}, par),
      element("td", {}, bound),
      element("td", { class: verdict === "worse" ? "pl-worse" : "pl-better" }, verdict),
    ),
  );
  const head = element(
    "tr",
    {},
    ...["", "yours", "par", "lower bound", ""].map((text) => element("th", { scope: "col" }, text)),
  );
  const state = complete
    ? `Complete: ${name || "a schedule that can run"}.`
    : `${number(left, "count")} actions to place.`;
  return element(
    "div",
    {},
    element(
      "table",
      { class: "pl-numbers" },
      element("thead", {}, head),
      element("tbody", {}, ...rows),
    ),
    element("p", { class: "pl-name", role: "status" }, state),
  );
}

export function renderBuilder({ model, el }) {
  const send = ({ action, ...about }) => request(model, action, about);
  const viewer = new Viewer();
  const run = training(model);
  const board = grid(model, send);
  const csv = exchange(model, send);
  const goals = goalStrip(model);
  const button = (action, label) =>
    control(
      "button",
      { class: "pl-button", type: "button", onclick: () => send({ action }) },
      label,
    );
  const [undo, redo, hint, clear] = [
    button("undo", "Undo"),
    button("redo", "Redo"),
    button("hint", "Hint"),
    button("clear", "Clear"),
  ];
  const handIn = button("hand_in", "Hand in");
  const message = element("pre", { class: "pl-refusal", role: "alert" });
  const asked = element("span", { class: "pl-goal-text", role: "status" });
  const goal = element(
    "div",
    { class: "pl-goal" },
    element("span", { class: "pl-goal-count" }, "Goal"),
    asked,
    handIn,
  );
  const score = element("div", { class: "pl-panel" });
  const any = control("input", {
    class: "pl-text pl-any",
    placeholder: "or type an action: 1F0",
    ariaLabel: "an action to place",
  });
  any.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && any.value) send({ action: "place", text: any.value.trim() });
  });

  const show = () => {
    const now = model.get("grid");
    [undo.disabled, redo.disabled, hint.disabled] = [!now.undo, !now.redo, now.complete];
    asked.textContent = `${now.task.reached ? "✓ " : ""}${now.task.text}`;
    goal.classList.toggle("pl-reached", now.task.reached);
    goal.hidden = model.get("goals").length > 0;
    handIn.hidden = !now.exercise;
    message.hidden = !now.message;
    message.textContent = now.message;
    message.classList.toggle("pl-bad", now.refused);
    board.show();
    csv.show();
    score.replaceChildren(scoreTable(now));
    for (const node of run.nodes) node.classList.toggle("pl-waiting", !now.complete);
    run.nodes[0].disabled = !now.complete;
  };
  // the grid is the picture, until a real run is laid under its prediction
  const draw = () => {
    const both = [model.get("predicted"), model.get("run_picture")];
    viewer.show(both.every((m) => m.bars?.byteLength) ? both.map(unpack) : []);
    viewer.readout.hidden = viewer.picture.timelines.length === 0;
  };

  el.classList.add("pipelab", "pl-lab", "pl-builder");
  el.append(
    goals.node,
    element(
      "div",
      { class: "pl-title" },
      "Build by hand",
      element(
        "span",
        { class: "pl-caption" },
        `dashed: legal now. Click or drag to place; ${KEYS}.`,
      ),
    ),
    goal,
    board.node,
    message,
    element(
      "div",
      { class: "pl-bar" },
      undo,
      redo,
      hint,
      clear,
      any,
      element("span", { class: "pl-space" }),
      ...run.nodes,
    ),
    run.message,
    element("div", { class: "pl-results" }, score, run.panel),
    viewer.picture.node,
    viewer.readout,
    csv.node,
  );
  const watches = [
    goals.watch,
    { "change:progress": run.watch["change:progress"], "change:paced": run.watch["change:paced"] },
    {
      "change:grid": show,
      "change:progress": show,
      "change:predicted": draw,
      "change:run_picture": draw,
    },
  ];
  for (const watch of watches)
    for (const [event, act] of Object.entries(watch)) model.on(event, act);
  show();
  draw();
  viewer.picture.attach();
  return () => {
    viewer.picture.detach();
    for (const watch of watches)
      for (const [event, act] of Object.entries(watch)) model.off(event, act);
  };
}

export default { render: renderBuilder };
