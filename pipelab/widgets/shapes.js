// The entry of the widget of shapes: switches, three numbers, and a mesh whose workers are chosen.
import { element } from "../plots/frontend/dom.js";
import { bigOf } from "./big.js";
import { goalStrip } from "./goals.js";
import { kernelNotice } from "./kernel.js";
import { choosable, drawnFrom, switchRow } from "./switches.js";

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

function renderShapes({ model, el }) {
  const goals = goalStrip(model);
  const row = switchRow(model);
  const big = element("div", { class: "pl-headline", ariaLabel: "main numbers" });
  const said = element("p", { class: "pl-memory-said", role: "status" });
  const about = element("p", { class: "pl-caption" });
  const mesh = choosable(model, "picture", "worker", (key) =>
    workerAfter(key, model.get("worker"), model.get("columns"), model.get("workers")),
  );
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
  const drawn = ["switches", "show", "numbers", "said", "about", "picture", "fits", "problem"];
  const end = drawnFrom(model, drawn, draw, [goals, kernel]);
  return () => (kernel.close(), end());
}

export default { render: renderShapes };
