// The schedule menu and the sliders. Each writes a trait of the Python widget at every move, and
// follows it.
import { control, element } from "../plots/frontend/dom.js";
import { short } from "../plots/frontend/format.js";
import { request, setDrawn, setTraits } from "./requests.js";
import { stageCosts } from "./stagecosts.js";

const SLIDERS = [
  { trait: "ranks", label: "ranks", title: "devices in the pipeline" },
  { trait: "microbatches", label: "micro-batches", title: "pieces that each batch is cut into" },
  {
    trait: "forward",
    label: "forward",
    title: "F: time of one forward of one stage; with one batch, its part of the work",
  },
  {
    trait: "backward",
    label: "backward",
    title: "B = I + W: time of one backward of one stage; with one batch, its part of the work",
  },
  { trait: "latency", label: "latency", title: "time that data needs from one rank to the next" },
  {
    trait: "overhead",
    label: "overhead",
    title: "time that each action takes beside its work, however small it is",
  },
  {
    trait: "stages_per_rank",
    label: "stages per rank",
    title: "consecutive parts of the model on each rank; many schedules have a fixed number",
  },
  {
    trait: "input_grad",
    label: "input gradient",
    title: "the part I of a backward: the gradient that goes on to the stage before",
  },
  {
    trait: "weight_grad",
    label: "weight gradient",
    title: "the part W of a backward: the gradient of the stage's own weights, which can wait",
  },
  {
    trait: "memory_limit",
    label: "memory limit",
    title:
      "activations that a rank may hold, of one micro-batch through all of its layers, or in % " +
      "of the batch: a line in the memory strips, and the limit of the schedule Auto; 0 is none",
  },
  {
    trait: "width",
    label: "model width",
    title: "size of the vectors between layers in a real run; also the unit of memory in bytes",
  },
];
const HOLD = {
  trait: "hold",
  label: "what stays",
  title:
    "what stays as it is when counts change: the model and the batch that are cut (one device " +
    "alone takes 100), or what a micro-batch costs on a stage: then the batch grows with the " +
    "micro-batches, and the model with the stages",
  options: {
    batch: "one batch",
    microbatch: "one micro-batch",
  },
  // The memory limit is in % of the batch, or in micro-batches of a rank: the same amount.
  changes: (model, hold) => {
    const share = 100 / (model.get("ranks") * model.get("microbatches"));
    const limit = model.get("memory_limit");
    return { hold, memory_limit: hold === "batch" ? limit * share : limit / share };
  },
};
const MENUS = [
  HOLD,
  {
    trait: "recompute",
    label: "recompute",
    title: "run forwards again instead of keeping their activations",
    options: { none: "no", "in-backward": "in the backward", early: "early, before the gradient" },
  },
  {
    trait: "memory",
    label: "memory strips",
    title: "what the strips count",
    options: { activations: "activations", bytes: "bytes, all parts" },
  },
  {
    trait: "model",
    label: "model",
    title: "what a real run trains",
    options: { auto: "MLP paced, GPT raw", mlp: "MLP", gpt: "GPT" },
  },
];

/** The backward is no trait: it is I + W, and moving it moves both in proportion. */
const backward = {
  value: (model) => model.get("input_grad") + model.get("weight_grad"),
  limits: ({ input_grad: i, weight_grad: w }) => [i[0] + w[0], i[1] + w[1], i[2]],
  changes: (model, value) => {
    const share = model.get("input_grad") / backward.value(model);
    return { input_grad: value * share, weight_grad: value * (1 - share) };
  },
  watch: ["input_grad", "weight_grad"],
};

/** Stages per rank are 0 for what is usual, and not free where the schedule has one number only. */
const stagesPerRank = {
  value: (model) => {
    const { fixed, stages_per_rank: usual } = entryOf(model);
    return fixed ? usual : model.get("stages_per_rank") || usual;
  },
  limits: (limits) => limits.stages_per_rank,
  changes: (_, value) => ({ stages_per_rank: value }),
  disabled: (model) => entryOf(model).fixed,
  watch: ["stages_per_rank", "schedule"],
};

function plain(trait) {
  return {
    value: (model) => model.get(trait),
    limits: (limits) => limits[trait],
    changes: (_, value) => ({ [trait]: value }),
    watch: [trait],
  };
}

function entryOf(model) {
  return model.get("catalogue").find(({ name }) => name === model.get("schedule"));
}

function slider(model, { trait, label, title }) {
  const kind = { backward, stages_per_rank: stagesPerRank }[trait] ?? plain(trait);
  const output = element("output", { class: "pl-value" });
  const input = control("input", { type: "range", title, ariaLabel: label });
  const list = model.get("choices")?.[trait]; // of a saved page: the values that it has
  const follow = () => {
    const [min, max, step] = list ? [0, list.length - 1, 1] : kind.limits(model.get("limits"));
    const value = kind.value(model);
    const at = list ? list.indexOf(value) : value;
    Object.assign(input, { min, max, step, value: at, disabled: kind.disabled?.(model) ?? false });
    output.textContent = input.ariaValueText = short(value);
  };
  const chosenValue = () => (list ? list[Number(input.value)] : Number(input.value));
  input.addEventListener("input", () => setDrawn(model, kind.changes(model, chosenValue())));
  follow();
  const node = element(
    "label",
    { class: "pl-slider", title },
    element("span", {}, label),
    output,
    input,
  );
  const watch = { "change:limits": follow };
  for (const name of kind.watch) watch[`change:${name}`] = follow;
  return { node, watch };
}

function menu(model, { trait, label, title, options, changes }) {
  const select = control("select", { class: "pl-select", ariaLabel: label, title });
  select.append(...Object.entries(options).map(([value, text]) => new Option(text, value)));
  const follow = () => (select.value = model.get(trait));
  const wanted = changes ?? ((_, value) => ({ [trait]: value }));
  select.addEventListener("change", () => setTraits(model, wanted(model, select.value)));
  follow();
  return {
    node: element("label", { class: "pl-slider" }, element("span", {}, label), select),
    watch: { [`change:${trait}`]: follow },
  };
}

function scheduleMenu(model) {
  const select = control("select", { class: "pl-select", ariaLabel: "schedule" });
  const summary = element("span", { class: "pl-summary" });
  const options = model.get("catalogue").map(({ name, title }) => new Option(title, name));
  select.append(...options);
  const follow = () => {
    const [problems, offered] = [model.get("problems"), model.get("schedules")];
    model.get("catalogue").forEach(({ name, title }, i) => {
      options[i].text = problems[name] ? `${title} (not with these numbers)` : title;
      options[i].title = problems[name] ?? "";
      options[i].hidden =
        offered.length > 0 && !offered.includes(name) && name !== model.get("schedule");
    });
    select.value = model.get("schedule");
    summary.textContent = summary.title = entryOf(model).summary;
  };
  select.addEventListener("change", () => setTraits(model, { schedule: select.value }));
  follow();
  const node = element(
    "label",
    { class: "pl-slider pl-schedule" },
    element("span", {}, "schedule"),
    select,
  );
  return { node, summary, watch: { "change:schedule": follow, "change:problems": follow } };
}

function presetMenu(model) {
  const select = control("select", { class: "pl-select", ariaLabel: "preset" });
  select.append(
    new Option("Try …", ""),
    ...model.get("presets").map((name) => new Option(name, name)),
  );
  select.addEventListener("change", () => {
    if (select.value) request(model, "preset", { name: select.value });
    select.value = "";
  });
  return {
    node: element("label", { class: "pl-slider" }, element("span", {}, "preset"), select),
    watch: {},
  };
}

/** Why the settings are impossible, and buttons for the nearest that are possible. */
export function problemBox(model) {
  const text = element("span", {});
  const buttons = element("span", { class: "pl-offers" });
  const node = element("div", { class: "pl-problem", role: "alert" }, text, buttons);
  const follow = () => {
    const offers = model.get("offers");
    node.hidden = !model.get("problem");
    text.textContent = model.get("problem");
    buttons.replaceChildren(
      ...offers.map(({ label, changes }) =>
        control(
          "button",
          {
            class: "pl-button",
            type: "button",
            onclick: () => request(model, "apply", changes),
          },
          `Use ${label}`,
        ),
      ),
    );
  };
  follow();
  return { node, watch: { "change:problem": follow, "change:offers": follow } };
}

const GROWS = "More micro-batches are a larger batch here, more stages a larger model.";

/** What changes with the counts, where it is not the pieces of one batch alone. */
function growthNote(model) {
  const node = element("span", { class: "pl-grows" }, GROWS);
  const follow = () => (node.hidden = model.get("hold") === "batch");
  follow();
  return { node, watch: { "change:hold": follow } };
}

/**
 * The controls that the lesson shows in a row, the others behind a button: {row, about, rest,
 * watch}; `watch` maps the model's events to what must run on them.
 */
export function controls(model) {
  const schedule = scheduleMenu(model);
  const grows = growthNote(model);
  const costs = stageCosts(model);
  const made = {
    schedule,
    ...Object.fromEntries(SLIDERS.map((about) => [about.trait, slider(model, about)])),
    ...Object.fromEntries(MENUS.map((about) => [about.trait, menu(model, about)])),
    preset: presetMenu(model),
  };
  const shown = model.get("show");
  const nodesOf = (wanted) =>
    Object.keys(made)
      .filter((name) => wanted(name))
      .map((name) => made[name].node);
  const first = shown.filter((name) => made[name]).map((name) => made[name].node);
  const others = element(
    "div",
    { class: "pl-controls" },
    ...nodesOf((name) => !shown.includes(name)),
  );
  const withCosts = shown.includes("stage_costs");
  const rest = element(
    "div",
    { class: "pl-rest", hidden: true },
    others,
    ...(withCosts ? [] : [costs.node]),
  );
  const button = control(
    "button",
    { class: "pl-link", type: "button", ariaExpanded: "false" },
    "All controls ▾",
  );
  button.hidden = Boolean(model.alone); // a saved page has what it shows, and nothing else
  button.addEventListener("click", () => {
    rest.hidden = !rest.hidden;
    button.ariaExpanded = String(!rest.hidden);
    button.textContent = rest.hidden ? "All controls ▾" : "Fewer controls ▴";
  });
  return {
    row: element("div", { class: "pl-controls" }, ...first),
    about: element(
      "div",
      { class: "pl-about" },
      schedule.summary,
      grows.node,
      ...(withCosts ? [costs.node] : []),
      button,
    ),
    rest,
    watch: [...Object.values(made), grows, costs].map(({ watch }) => watch),
  };
}
