// The sliders and the schedule menu. Each writes one trait of the Python widget at every move, and follows it.
import { control, element } from "../plots/frontend/dom.js";
import { short } from "../plots/frontend/format.js";

const SLIDERS = [
  { trait: "ranks", label: "ranks", title: "devices in the pipeline, one stage of the model on each" },
  { trait: "microbatches", label: "micro-batches", title: "pieces that each batch is cut into" },
  { trait: "forward", label: "forward cost", title: "time of one forward of one stage" },
  { trait: "backward", label: "backward cost", title: "time of one backward of one stage" },
  { trait: "latency", label: "latency", title: "time that data needs from one rank to the next" },
];

function slider(model, { trait, label, title }) {
  const output = element("output", { class: "pl-value" });
  const input = control("input", { type: "range", title, ariaLabel: label });
  const follow = () => {
    const [min, max, step] = model.get("limits")[trait];
    Object.assign(input, { min, max, step, value: model.get(trait) });
    output.textContent = short(model.get(trait));
  };
  input.addEventListener("input", () => {
    model.set(trait, Number(input.value));
    model.save_changes();
  });
  follow();
  const node = element("label", { class: "pl-slider" }, element("span", {}, label), output, input);
  return { node, watch: { [`change:${trait}`]: follow, "change:limits": follow } };
}

function scheduleMenu(model) {
  const select = control("select", { class: "pl-select", ariaLabel: "schedule" });
  const summary = element("span");
  const reasons = element("ul");
  const count = control("summary");
  const impossible = element("details", {}, count, reasons);
  const about = element("div", { class: "pl-about" }, summary, impossible);
  const follow = () => {
    const choices = model.get("choices");
    select.replaceChildren(
      ...choices.map(({ name, title, problem }) => {
        const option = new Option(problem ? `${title} (impossible here)` : title, name);
        option.disabled = Boolean(problem);
        option.title = problem ?? "";
        return option;
      }),
    );
    select.value = model.get("schedule");
    summary.textContent = choices.find(({ name }) => name === model.get("schedule")).summary;
    const refused = choices.filter(({ problem }) => problem);
    impossible.hidden = refused.length === 0;
    count.textContent = `${refused.length} of ${choices.length} schedules are impossible with these numbers`;
    reasons.replaceChildren(...refused.map(({ title, problem }) => element("li", {}, `${title}: ${problem}`)));
  };
  select.addEventListener("change", () => {
    model.set("schedule", select.value);
    model.save_changes();
  });
  follow();
  const node = element("label", { class: "pl-slider pl-schedule" }, element("span", {}, "schedule"), select);
  return { node, about, watch: { "change:schedule": follow, "change:choices": follow } };
}

/** All controls: {nodes, about, watch}; `watch` maps the model's events to what must run on them. */
export function controls(model) {
  const menu = scheduleMenu(model);
  const all = [menu, ...SLIDERS.map((description) => slider(model, description))];
  return { nodes: all.map(({ node }) => node), about: menu.about, watch: all.map(({ watch }) => watch) };
}
