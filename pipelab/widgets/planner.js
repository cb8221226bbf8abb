// The entry of the planner's widget: switches, a table whose rows are chosen, and one row drawn.
import { element } from "../plots/frontend/dom.js";
import { bigOf } from "./big.js";
import { goalStrip } from "./goals.js";
import { kernelNotice } from "./kernel.js";
import { choosable, drawnFrom, switchRow } from "./switches.js";

const WORDS_OF_PLANNER = {
  gone: "The kernel that made this plan has ended: to move the switches, run this cell again.",
  busy: "The kernel is busy with another cell: the plan waits for it.",
};

/** The row that a key leads to, of so many; null for other keys. */
export function rowAfter(key, row, rows) {
  const places = { ArrowUp: row - 1, ArrowDown: row + 1, Home: 0, End: rows - 1 };
  if (!(key in places)) return null;
  return Math.min(Math.max(places[key], 0), rows - 1);
}

function renderPlanner({ model, el }) {
  const goals = goalStrip(model);
  const row = switchRow(model);
  const big = element("div", { class: "pl-headline", ariaLabel: "main numbers" });
  const said = element("p", { class: "pl-memory-said", role: "status" });
  const title = element("b");
  const parts = element("p", { class: "pl-caption" });
  const lead = element("b");
  const lines = element("ul");
  const why = element(
    "div",
    { class: "pl-planner-why", ariaLive: "polite" },
    title,
    parts,
    lead,
    lines,
  );
  const about = element("p", { class: "pl-caption" });
  const rejected = element("p", { class: "pl-caption" });
  const after = (key) => rowAfter(key, model.get("row"), model.get("rows"));
  const pictures = ["table", "picture", "timeline"].map((name) =>
    choosable(model, name, "row", after),
  );
  const [table, mesh, timeline] = pictures;
  const draw = () => {
    const problem = Boolean(model.get("problem"));
    row.follow();
    big.replaceChildren(...model.get("numbers").map(bigOf));
    for (const node of [big, why, about, rejected]) node.classList.toggle("pl-memory-old", problem);
    if (said.textContent !== model.get("said")) said.textContent = model.get("said");
    said.className = problem ? "pl-memory-said pl-fits-not" : "pl-memory-said";
    const told = model.get("why");
    title.textContent = told.title;
    parts.textContent = told.parts;
    lead.textContent = told.lead;
    lines.replaceChildren(...told.lines.map((line) => element("li", {}, line)));
    why.hidden = !told.title;
    about.textContent = model.get("about");
    const reasons = model.get("rejected");
    rejected.textContent = reasons.length ? `Not in the table: ${reasons.join("; ")}.` : "";
    for (const picture of pictures) picture.draw();
  };
  el.classList.add("pipelab", "pl-lab", "pl-memory", "pl-planner");
  const stop = () => {
    for (const { node } of [row, ...pictures]) node.inert = kernel.gone();
  };
  const kernel = kernelNotice(model, stop, WORDS_OF_PLANNER);
  el.append(goals.node, kernel.node, row.node, big, said, table.node, why);
  el.append(mesh.node, about, timeline.node, rejected);
  const drawn = ["switches", "show", "numbers", "said", "table", "why", "about", "rejected"];
  drawn.push("picture", "timeline", "problem");
  const end = drawnFrom(model, drawn, draw, [goals, kernel]);
  return () => (kernel.close(), end());
}

export default { render: renderPlanner };
