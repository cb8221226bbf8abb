// The entry of the memory widget: switches, a picture that the kernel draws, and its sentence.
import { element } from "../plots/frontend/dom.js";
import { goalStrip } from "./goals.js";
import { kernelNotice } from "./kernel.js";
import { drawnFrom, switchRow } from "./switches.js";

const KERNEL = {
  gone: "The kernel that made this picture has ended: to move the switches, run this cell again.",
  busy: "The kernel is busy with another cell: the picture waits for it.",
};

function renderMemory({ model, el }) {
  const goals = goalStrip(model);
  const row = switchRow(model);
  const said = element("p", { class: "pl-memory-said", role: "status" });
  const picture = element("div", { class: "pl-memory-picture" });
  const draw = () => {
    row.follow();
    said.textContent = model.get("said");
    said.className = `pl-memory-said pl-fits-${model.get("problem") ? "not" : model.get("fits")}`;
    picture.innerHTML = model.get("picture");
    picture.classList.toggle("pl-memory-old", Boolean(model.get("problem")));
  };
  el.classList.add("pipelab", "pl-lab", "pl-memory");
  const kernel = kernelNotice(model, () => (row.node.inert = kernel.gone()), KERNEL);
  el.append(goals.node, kernel.node, row.node, said, picture);
  const drawn = ["switches", "show", "said", "picture", "fits", "problem"];
  const end = drawnFrom(model, drawn, draw, [goals, kernel]);
  return () => (kernel.close(), end());
}

export default { render: renderMemory };
