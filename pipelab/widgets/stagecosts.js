// One small bar per stage: drag it, or use the arrow keys, to make that stage cost more or less
// than the others.
import { control, element } from "../plots/frontend/dom.js";
import { short } from "../plots/frontend/format.js";
import { setDrawn } from "./requests.js";

const [LEAST, MOST, STEP, HEIGHT] = [0.25, 3, 0.25, 44];

/**
 * `costs` for `stages` stages with one of them changed, within the bars' range; [] when all are
 * equal.
 */
export function changed(costs, stages, stage, value) {
  const all = Array.from({ length: stages }, (_, i) => costs[i] ?? 1);
  all[stage] = Math.min(MOST, Math.max(LEAST, Math.round(value / STEP) * STEP));
  return all.every((cost) => cost === 1) ? [] : all;
}

export function stageCosts(model) {
  const bars = element("div", { class: "pl-stages" });
  const equal = control("button", { class: "pl-button pl-small", type: "button" }, "equal stages");
  const node = element(
    "div",
    { class: "pl-stage-costs" },
    element("span", { class: "pl-caption" }, "cost of each stage: drag a bar, or use ↑ ↓"),
    bars,
    equal,
  );
  const write = (costs) => setDrawn(model, { stage_costs: costs });
  equal.addEventListener("click", () => write([]));

  const bar = (stage) => {
    const fill = element("span", { class: "pl-stage-fill" });
    const label = element("span", { class: "pl-stage-label" });
    const slot = control(
      "div",
      {
        class: "pl-stage",
        tabIndex: 0,
        role: "slider",
        ariaLabel: `cost of stage ${stage}`,
        ariaValueMin: String(LEAST),
        ariaValueMax: String(MOST),
      },
      fill,
      label,
    );
    const now = () => model.get("stage_costs")[stage] ?? 1;
    const set = (value) =>
      write(changed(model.get("stage_costs"), bars.children.length, stage, value));
    const drag = (event) => {
      if (event.buttons & 1)
        set((MOST * (HEIGHT - (event.clientY - slot.getBoundingClientRect().top))) / HEIGHT);
    };
    slot.addEventListener(
      "pointerdown",
      (event) => (slot.setPointerCapture(event.pointerId), drag(event)),
    );
    slot.addEventListener("pointermove", drag);
    slot.addEventListener("keydown", (event) => {
      const step = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP }[
        event.key
      ];
      if (step === undefined && event.key !== "Home") return;
      event.preventDefault();
      event.stopPropagation();
      set(step === undefined ? 1 : now() + step);
    });
    slot.follow = () => {
      fill.style.height = `${(Math.min(now(), MOST) / MOST) * 100}%`;
      label.textContent = short(now());
      slot.title = `stage ${stage} costs ${short(now())} × the costs above`;
      slot.ariaValueNow = String(now());
    };
    return slot;
  };

  const follow = () => {
    const stages = model.get("predicted").stages ?? bars.children.length;
    while (bars.children.length > stages) bars.lastChild.remove();
    while (bars.children.length < stages) bars.append(bar(bars.children.length));
    for (const slot of bars.children) slot.follow();
    bars.classList.toggle("pl-dense", stages > 16);
    equal.disabled = model.get("stage_costs").length === 0;
  };
  follow();
  return { node, watch: { "change:stage_costs": follow, "change:predicted": follow } };
}
