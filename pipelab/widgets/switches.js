// Switches of a widget whose kernel draws: each is a trait, a slider or a list.
import { control, element } from "../plots/frontend/dom.js";
import { setTraits } from "./requests.js";

/** The place of a value in a list, or of the nearest number. */
export function placeOf(values, value) {
  const at = values.indexOf(value);
  if (at >= 0 || typeof value !== "number") return Math.max(0, at);
  const distances = values.map((other) => Math.abs(other - value));
  return distances.indexOf(Math.min(...distances));
}

/** {node, follow}: one switch; `follow` moves it to where the trait stands. */
function switchOf(model, { name, label, kind, values, words }) {
  const write = (at) => setTraits(model, { [name]: values[at] });
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

/** {node, follow}: the switches that are shown; made anew only where their values have changed. */
export function switchRow(model) {
  const node = element("div", { class: "pl-controls" });
  let made = null;
  let inputs = [];
  const follow = () => {
    const shown = model.get("switches").filter(({ name }) => model.get("show").includes(name));
    const shape = JSON.stringify(shown);
    if (made !== shape) {
      const at = inputs.findIndex((input) => input.node.contains(document.activeElement));
      inputs = shown.map((one) => switchOf(model, one));
      node.replaceChildren(...inputs.map((input) => input.node));
      inputs[at]?.focus();
      made = shape;
    }
    for (const input of inputs) input.follow();
  };
  return { node, follow };
}

/** What draws once after several traits have changed in one message. */
function drawnOnce(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    queueMicrotask(() => {
      due = false;
      draw();
    });
  };
}

/**
 * Draw now and whenever one of these traits changes, and let `parts` follow theirs. Returns what
 * ends it.
 */
export function drawnFrom(model, traits, draw, parts) {
  const drawSoon = drawnOnce(draw);
  const redraw = Object.fromEntries(traits.map((name) => [`change:${name}`, drawSoon]));
  const watches = [...parts.map(({ watch }) => watch), redraw];
  for (const watch of watches)
    for (const [event, act] of Object.entries(watch)) model.on(event, act);
  draw();
  return () => {
    for (const watch of watches)
      for (const [event, act] of Object.entries(watch)) model.off(event, act);
  };
}

/**
 * {node, draw}: the kernel's picture in the trait `name`, in which a click or a key chooses `pick`,
 * a number. `after(key)` is where a key leads, or null.
 */
export function choosable(model, name, pick, after) {
  const node = element("div", { class: "pl-memory-picture" });
  const choose = (value) => {
    if (node.inert || value === model.get(pick)) return;
    setTraits(model, { [pick]: value });
  };
  const valueAt = (target) => target.closest?.(`[data-${pick}]`)?.dataset[pick];
  node.addEventListener("click", ({ target }) => {
    const value = valueAt(target);
    if (value !== undefined) choose(Number(value));
  });
  node.addEventListener("keydown", (event) => {
    if (valueAt(event.target) === undefined) return;
    const next = after(event.key);
    if (next === null) return;
    event.preventDefault();
    event.stopPropagation();
    choose(next);
  });
  let drawn = null;
  const draw = () => {
    node.classList.toggle("pl-memory-old", Boolean(model.get("problem")));
    if (drawn === model.get(name)) return;
    const focused = node.contains(document.activeElement);
    drawn = model.get(name);
    node.innerHTML = drawn;
    if (focused) node.querySelector(`[data-${pick}][tabindex="0"]`)?.focus();
  };
  return { node, draw };
}
