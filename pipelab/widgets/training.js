// The real run: its buttons, what it says while it runs, the loss, and whether the gradients are
// right.
import { control, element } from "../plots/frontend/dom.js";
import { short } from "../plots/frontend/format.js";
import { request, setTraits } from "./requests.js";

const BUSY = ["starting", "running"];

/** Points of a falling line in a box of `width` × `height`, as SVG wants them. */
export function lossPoints(losses, steps, width, height) {
  const top = Math.max(...losses);
  const bottom = Math.min(0.9 * top, ...losses);
  const x = (i) => (width * i) / Math.max(1, steps - 1);
  return losses
    .map(
      (loss, i) =>
        `${x(i).toFixed(1)},${(height * ((top - loss) / (top - bottom || 1))).toFixed(1)}`,
    )
    .join(" ");
}

function lossCurve({ losses, steps }) {
  const [width, height] = [220, 56];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({
    viewBox: `-3 -4 ${width + 6} ${height + 8}`,
    class: "pl-loss",
    role: "img",
  }))
    svg.setAttribute(name, value);
  svg.setAttribute(
    "aria-label",
    `loss from ${short(losses[0])} to ${short(losses.at(-1))} in ${losses.length} steps`,
  );
  const points = lossPoints(losses, steps, width, height);
  const [x, y] = points.split(" ").at(-1).split(",");
  svg.innerHTML = `<polyline points="${points}"/><circle cx="${x}" cy="${y}" r="3"/>`;
  return svg;
}

/**
 * Whether the gradients are those of the unsplit model: {text, good}, or null while nobody knows.
 */
export function badge({ gradient_error: error, gradient_note: note }) {
  if (error === undefined) return null;
  if (error === null) return { text: note, good: false };
  const good = error <= 1e-5;
  const distance = error === 0 ? "0" : error.toExponential(1);
  const verdict = good ? "match" : "differ from";
  const remark = note ? ` (${note})` : "";
  return { text: `gradients ${verdict} the unsplit model: ${distance}${remark}`, good };
}

/**
 * The gap between measured and predicted makespan on every rank, by what it is made of: rows of
 * text, a heading first.
 */
export function gapRows(gap) {
  const parts = ["compute", "transfer", "waiting", "overhead", "processors", "total"];
  const signed = (value) =>
    Math.abs(value) < 0.05 ? "0" : `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)}`;
  return [
    ["rank", ...parts],
    ...gap.total.map((_, rank) => [String(rank), ...parts.map((part) => signed(gap[part][rank]))]),
  ];
}

/** A menu of the measured steps: "step 3: 333 ms". */
function stepMenu(model, { spans, step }) {
  const select = control("select", { class: "pl-select pl-small", ariaLabel: "measured step" });
  select.append(...spans.map((span, i) => new Option(`step ${i}: ${short(span)} ms`, i)));
  select.value = step;
  select.addEventListener("change", () =>
    request(model, "show_step", { step: Number(select.value) }),
  );
  return select;
}

const PACED =
  "The pace sets how long an action lasts. One that starts late ends in time: its bar is " +
  "shorter, and what its cost was is not measured by it.";
const GAP =
  "compute: actions took longer than assumed; transfer: data under way; waiting: for others, and " +
  "before and after all work; overhead: starting actions, handing results over; processors: time " +
  "in which the rank could have run, but no processor was free. The parts sum to the total.";

function gapTable(gap, paced) {
  const [head, ...rows] = gapRows(gap);
  const cells = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, {}, text)));
  const table = element(
    "table",
    { class: "pl-numbers" },
    element("thead", {}, cells("th", head)),
    element("tbody", {}, ...rows.map((row) => cells("td", row))),
  );
  return element(
    "div",
    { class: "pl-gap", title: GAP },
    element(
      "div",
      { class: "pl-title" },
      "Measured − predicted, ms",
      element("span", { class: "pl-caption" }, "by rank, in parts that sum"),
    ),
    table,
    ...(paced ? [element("p", { class: "pl-caption" }, PACED)] : []),
  );
}

/**
 * {lost: hears whether the kernel is gone; nodes: Run, Stop and the pace; message: how it goes, and
 * whether the gradients are right; panel:
 * loss, steps and the gap; watch: the model's events}.
 */
export function training(model) {
  const run = control(
    "button",
    {
      class: "pl-button pl-primary",
      type: "button",
      title: "this schedule trains a small model in real worker processes",
    },
    "Run for real",
  );
  const stop = control("button", { class: "pl-button", type: "button" }, "■ Stop");
  for (const [button, action] of [
    [run, "run"],
    [stop, "stop"],
  ]) {
    button.addEventListener("click", () => {
      button.disabled = true; // until Python answers with its progress
      request(model, action);
    });
  }
  const paced = control("input", { type: "checkbox", class: "pl-switch" });
  paced.addEventListener("change", () => {
    setTraits(model, { paced: paced.checked });
  });
  const pace = element(
    "label",
    {
      class: "pl-pace",
      title:
        "Paced: 1 unit lasts so long; every action really runs, then waits until its cost is " +
        "over. Raw: as fast as this machine can; the prediction then uses the measured costs.",
    },
    paced,
    element("span"),
  );
  const again = control(
    "button",
    {
      class: "pl-button",
      type: "button",
      title: "the measured costs of every stage become the costs of the lab",
    },
    "Predict again with measured costs",
  );
  again.addEventListener("click", () => request(model, "use_measured_costs"));
  const message = element("span", {});
  const mark = element("span", { class: "pl-badge", hidden: true });
  const told = element("div", { role: "status", hidden: true }, message, mark);
  const panel = element("div", { class: "pl-run" });

  const follow = () => {
    const progress = model.get("progress");
    const busy = BUSY.includes(progress.state);
    run.disabled = stop.disabled = false;
    run.hidden = busy;
    stop.hidden = !busy;
    paced.checked = model.get("paced");
    const slower = model.get("slower"); // of a widget whose costs are seconds
    const pacing = slower ? `${short(slower)} × slower` : `1 = ${short(model.get("pace_ms"))} ms`;
    pace.lastChild.textContent = paced.checked ? `paced: ${pacing}` : "raw: as fast as it goes";
    told.className = `pl-message pl-${progress.state}`;
    told.hidden = !progress.message || progress.state === "idle";
    if (message.textContent !== progress.message) message.textContent = progress.message;
    const verdict = badge(progress);
    mark.hidden = !verdict;
    mark.className = `pl-badge${verdict?.good ? " pl-good" : ""}`;
    mark.textContent = verdict ? `${verdict.good ? "✓ " : ""}${verdict.text}` : "";
    const parts = [];
    if (progress.losses?.length) {
      parts.push(
        lossCurve(progress),
        element(
          "div",
          { class: "pl-caption" },
          `loss ${short(progress.losses[0])} → ${short(progress.losses.at(-1))}`,
        ),
      );
    }
    const about = element("div", {}, ...parts);
    const gap = progress.gap
      ? [element("div", {}, gapTable(progress.gap, paced.checked), again)]
      : [];
    if (progress.spans) about.append(stepMenu(model, progress));
    panel.replaceChildren(...(about.hasChildNodes() ? [about, ...gap] : []));
  };
  /** The kernel is gone, and with it a run that was on. */
  const lost = (gone) => {
    if (!gone || !BUSY.includes(model.get("progress").state)) return;
    stop.hidden = true;
    run.hidden = false;
    told.className = "pl-message pl-stopped";
    message.textContent = "The run ended with its kernel.";
  };
  follow();
  return {
    lost,
    nodes: [run, stop, pace],
    message: told,
    panel,
    watch: { "change:progress": follow, "change:paced": follow, "change:pace_ms": follow },
  };
}
