// The entry of the memory widget: switches, a picture that the kernel draws, and its sentence.
import { control, element } from "../plots/frontend/dom.js";
import { goalStrip } from "./goals.js";
import { kernelNotice } from "./kernel.js";

const KERNEL = {
  gone: "The kernel that made this picture has ended: to move the switches, run this cell again.",
  busy: "The kernel is busy with another cell: the picture waits for it.",
};

/** The place of a value in a list, or of the nearest number. */
export function placeOf(values, value) {
  const at = values.indexOf(value);
  if (at >= 0 || typeof value !== "number") return Math.max(0, at);
  const distances = values.map((other) => Math.abs(other - value));
  return distances.indexOf(Math.min(...distances));
}

/** {node, follow}: one switch; `follow` moves it to where the trait stands. */
function switchOf(model, { name, label, kind, values, words }) {
  const write = (at) => {
    model.set(name, values[at]);
    model.save_changes();
  };
  const told = element("span", { class: "pl-value" });
  let input;
  if (kind === "range") {
    input = control("input", { type: "range", min: 0, max: values.length - 1, step: 1 });
    input.addEventListener("input", () => (tell(), write(input.valueAsNumber)));
  } else {
    input = control("select", { class: "pl-select" });
    input.append(...words.map((word, i) => new Option(word, i)));
    input.addEventListener("change", () => write(Number(input.value)));
  }
  const tell = () => {
    if (kind !== "range") return;
    told.textContent = words[input.valueAsNumber];
    input.setAttribute("aria-valuetext", words[input.valueAsNumber]);
  };
  const follow = () => {
    input.value = placeOf(values, model.get(name));
    tell();
  };
  follow();
  const node = element("label", { class: "pl-slider" }, element("span", {}, label), told, input);
  return { node, follow, focus: () => input.focus() };
}

function renderMemory({ model, el }) {
  const goals = goalStrip(model);
  const row = element("div", { class: "pl-controls" });
  const said = element("p", { class: "pl-memory-said", role: "status" });
  const picture = element("div", { class: "pl-memory-picture" });
  let made = null;
  let inputs = [];
  const switches = () => {
    const shown = model.get("switches").filter(({ name }) => model.get("show").includes(name));
    const shape = JSON.stringify(shown);
    if (made !== shape) {
      const at = inputs.findIndex(({ node }) => node.contains(document.activeElement));
      inputs = shown.map((one) => switchOf(model, one));
      row.replaceChildren(...inputs.map(({ node }) => node));
      inputs[at]?.focus();
      made = shape;
    }
    for (const { follow } of inputs) follow();
  };
  const draw = () => {
    switches();
    said.textContent = model.get("said");
    said.className = `pl-memory-said pl-fits-${model.get("problem") ? "not" : model.get("fits")}`;
    picture.innerHTML = model.get("picture");
    picture.classList.toggle("pl-memory-old", Boolean(model.get("problem")));
  };
  el.classList.add("pipelab", "pl-lab", "pl-memory");
  const kernel = kernelNotice(model, () => (row.inert = kernel.gone()), KERNEL);
  el.append(goals.node, kernel.node, row, said, picture);
  let due = false;
  const drawSoon = () => {
    if (due) return; // Python changes several traits in one message: draw once
    due = true;
    queueMicrotask(() => {
      due = false;
      draw();
    });
  };
  const redraw = Object.fromEntries(
    ["switches", "show", "said", "picture", "fits", "problem"].map((name) => [
      `change:${name}`,
      drawSoon,
    ]),
  );
  const watches = [goals.watch, kernel.watch, redraw];
  for (const watch of watches)
    for (const [event, act] of Object.entries(watch)) model.on(event, act);
  draw();
  return () => {
    kernel.close();
    for (const watch of watches)
      for (const [event, act] of Object.entries(watch)) model.off(event, act);
  };
}

export default { render: renderMemory };
