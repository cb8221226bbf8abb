// The goal strip: what a lesson asks for, one thing at a time. A goal ticks itself when the state
// meets it.
import { control, element } from "../plots/frontend/dom.js";
import { request, setTraits } from "./requests.js";

const COMPARE = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
};
const CLOSE = 1e-6; // numbers that differ by so little of themselves are equal

/** Whether `facts`, by name, meet all conditions [name, operator, value]; same as goals.py. */
export function meets(facts, conditions) {
  return conditions.every(([name, operator, value]) => {
    let fact = facts[name];
    if (fact === undefined || fact === null) return false;
    if (typeof fact === "number" && Math.abs(fact - value) <= CLOSE * Math.abs(value)) fact = value;
    return COMPARE[operator](fact, value);
  });
}

/** What goals can be about: the settings, the numbers of the prediction, and what was done. */
export function factsOf(model, timeline) {
  const facts = { ...timeline?.settings };
  for (const { key, value } of timeline?.numbers ?? []) facts[key] = value;
  facts.copies = timeline?.replicas;
  facts.pins = model.get("pins")?.length;
  facts.run = model.get("progress").state;
  return facts;
}

/** {node, follow(timeline), watch}: hidden where there are no goals. */
export function goalStrip(model) {
  const count = element("span", { class: "pl-goal-count" });
  const text = element("span", { class: "pl-goal-text", role: "status" });
  const turn = (by, label, title) =>
    control(
      "button",
      {
        class: "pl-button pl-small",
        type: "button",
        title,
        ariaLabel: title,
        onclick: () => setTraits(model, { goal: model.get("goal") + by }),
      },
      label,
    );
  const back = turn(-1, "◂", "the goal before");
  const next = turn(1, "next ▸", "the next goal");
  const how = control(
    "button",
    {
      class: "pl-link",
      type: "button",
      title: "sets the controls so that this goal is met",
      onclick: () => request(model, "show_goal"),
    },
    "show me how",
  );
  const node = element("div", { class: "pl-goal" }, count, text, how, back, next);
  const draw = () => {
    const [goals, at] = [model.get("goals"), model.get("goal")];
    node.hidden = goals.length === 0;
    if (node.hidden) return;
    const { text: wanted, reached, why } = goals[at];
    const done = goals.every((goal) => goal.reached);
    const marks = goals.map((goal) => (goal.reached ? "●" : "○")).join("");
    count.textContent = `${reached ? "✓" : "Goal"} ${at + 1} of ${goals.length}`;
    count.title = marks;
    text.textContent = reached && why ? why : wanted;
    node.classList.toggle("pl-reached", Boolean(reached));
    back.disabled = at === 0;
    next.disabled = at === goals.length - 1;
    next.classList.toggle("pl-primary", Boolean(reached) && !next.disabled);
    how.hidden = Boolean(reached) || done || !Object.keys(goals[at].how ?? {}).length;
  };
  const follow = (timeline) => {
    const [goals, at] = [model.get("goals"), model.get("goal")];
    const current = goals[at];
    if (!current || current.reached || !meets(factsOf(model, timeline), current.when)) return;
    setTraits(model, {
      goals: goals.map((goal, i) => (i === at ? { ...goal, reached: true } : goal)),
    });
  };
  draw();
  return { node, follow, watch: { "change:goals": draw, "change:goal": draw } };
}
