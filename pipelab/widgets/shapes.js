// The entry of the widget of shapes: switches, three numbers, and a mesh whose workers are chosen.
import { element } from "../plots/frontend/dom.js";
import { bigOf } from "./big.js";
import { goalStrip } from "./goals.js";
import { kernelNotice } from "./kernel.js";
import { drawnOnce, switchRow } from "./switches.js";

const WORDS_OF_SHAPES = {
  gone: "The kernel that made this picture has ended: to move the switches, run this cell again.",
  busy: "The kernel is busy with another cell: the picture waits for it.",
};

/** The worker that a key leads to, in a grid of so many columns; null for other keys. */
export function workerAfter(key, worker, columns, workers) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  if (key === "Home") return 0;
  if (key === "End") return workers - 1;
  if (!(key in steps)) return null;
  const next = worker + steps[key];
  return next >= 0 && next < workers ? next : worker;
}

/** The picture as an element, in which a click or a key chooses a worker. */
function meshOf(model) {
  const node = element("div", { class: "pl-memory-picture" });
  const choose = (worker) => {
    if (node.inert || worker === model.get("worker")) return;
    model.set("worker", worker);
    model.save_changes();
  };
  const workerAt = (target) => target.closest?.("[data-worker]")?.dataset.worker;
  node.addEventListener("click", ({ target }) => {
    const worker = workerAt(target);
    if (worker !== undefined) choose(Number(worker));
  });
  node.addEventListener("keydown", (event) => {
    const worker = workerAt(event.target);
    if (worker === undefined) return;
    const at = model.get("worker");
    const next = workerAfter(event.key, at, model.get("columns"), model.get("workers"));
    if (next === null) return;
    event.preventDefault();
    event.stopPropagation();
    choose(next);
  });
  const draw = () => {
    const focused = node.contains(document.activeElement);
    node.innerHTML = model.get("picture");
    node.classList.toggle("pl-memory-old", Boolean(model.get("problem")));
    if (focused) node.querySelector('[data-worker][tabindex="0"]')?.focus();
  };
  return { node, draw };
}

function renderShapes({ model, el }) {
  const goals = goalStrip(model);
  const row = switchRow(model);
  const big = element("div", { class: "pl-headline", ariaLabel: "main numbers" });
  const said = element("p", { class: "pl-memory-said", role: "status" });
  const about = element("p", { class: "pl-caption" });
  const mesh = meshOf(model);
  const draw = () => {
    row.follow();
    big.replaceChildren(...model.get("numbers").map(bigOf));
    big.classList.toggle("pl-memory-old", Boolean(model.get("problem")));
    if (said.textContent !== model.get("said")) said.textContent = model.get("said");
    said.className = `pl-memory-said pl-fits-${model.get("problem") ? "not" : model.get("fits")}`;
    about.textContent = model.get("about");
    mesh.draw();
  };
  el.classList.add("pipelab", "pl-lab", "pl-memory", "pl-shapes");
  const stop = () => {
    row.node.inert = kernel.gone();
    mesh.node.inert = kernel.gone();
  };
  const kernel = kernelNotice(model, stop, WORDS_OF_SHAPES);
  el.append(goals.node, kernel.node, row.node, big, said, mesh.node, about);
  const drawSoon = drawnOnce(draw);
  const drawn = ["switches", "show", "numbers", "said", "about", "picture", "fits", "problem"];
  const redraw = Object.fromEntries(drawn.map((name) => [`change:${name}`, drawSoon]));
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

export default { render: renderShapes };
