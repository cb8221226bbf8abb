// The model as a row of layers, their time upwards and their bytes downwards, with cuts between
// them that are dragged, or moved with the arrow keys.
import { control, element } from "../plots/frontend/dom.js";
import { bytes, short } from "../plots/frontend/format.js";
import { boundsOf, moveCut } from "../plots/frontend/recut.js";

const UP = 66; // pixels of the tallest time
const DOWN = 38; // and of the largest bytes
const NARROW = 0.08; // of the row: a stage whose time is written small
const TIMES = [
  ["forward", "F"],
  ["input_grad", "I"],
  ["weight_grad", "W"],
];

/** "5.29 ms": seconds as a person reads them. */
export function milliseconds(seconds) {
  return `${Number((1000 * seconds).toPrecision(3))} ms`;
}

/** Three digits: more of them only flicker. */
export function digits(value) {
  return short(Number(value.toPrecision(3)));
}

/** What a layer's column says when it is pointed at. */
function aboutLayer(chain, layer) {
  const seconds = TIMES.reduce((all, [part]) => all + chain[part][layer], 0);
  return (
    `layer ${chain.names[layer]}: ${milliseconds(seconds)} for a micro-batch ` +
    `(${TIMES.map(([part, kind]) => `${kind} ${milliseconds(chain[part][layer])}`).join(", ")})\n` +
    `weights ${bytes(chain.parameter_bytes[layer])}, ` +
    `saves ${bytes(chain.activation_bytes[layer])}, ` +
    `hands on ${bytes(chain.output_bytes[layer])}`
  );
}

function layerColumn(chain, layer, scales) {
  const [most, heavy] = scales;
  const times = TIMES.map(([part, kind]) =>
    element("i", {
      class: `pl-cut-${kind}`,
      style: `height: ${(UP * chain[part][layer]) / most}px`,
    }),
  );
  const held = ["parameter_bytes", "activation_bytes"].map((part) =>
    element("i", {
      class: `pl-${part}`,
      style: `height: ${(DOWN * chain[part][layer]) / heavy}px`,
    }),
  );
  const [number, ...name] = chain.names[layer].split(" ");
  return element(
    "div",
    { class: "pl-layer", title: aboutLayer(chain, layer) },
    element("div", { class: "pl-layer-time", style: `height: ${UP}px` }, ...times),
    element("div", { class: "pl-layer-name" }, number, element("small", {}, name.join(" "))),
    element("div", { class: "pl-layer-bytes", style: `height: ${DOWN}px` }, ...held),
  );
}

/**
 * {node, show(found, slowest, ghosts)}: `about` is what Python says of the model and the schedule,
 * `write` hears new sizes. `ghosts`: [name, sizes] of other ways to cut.
 */
export function cutRow(about, write) {
  const { chain } = about;
  const layers = chain.names.length;
  const every = (part) => chain.names.map((_, layer) => chain[part][layer]);
  const seconds = chain.names.map((_, i) => TIMES.reduce((all, [part]) => all + chain[part][i], 0));
  const held = chain.names.map((_, i) => every("parameter_bytes")[i] + chain.activation_bytes[i]);
  const scales = [Math.max(...seconds), Math.max(...held)];
  const columns = chain.names.map((_, layer) => layerColumn(chain, layer, scales));
  const brackets = element("div", { class: "pl-cut-brackets" });
  const handles = element("div", { class: "pl-cut-handles" });
  const told = chain.names.map((name, i) => `${name} ${milliseconds(seconds[i])}`);
  const row = element(
    "div",
    {
      role: "group",
      ariaLabel: `layers with their time for a micro-batch: ${told.join(", ")}`,
      class: "pl-cut-layers",
      style: `grid-template-columns: repeat(${layers}, 1fr)`,
    },
    ...columns,
    handles,
  );
  const beneath = element("div", {});
  const scale = element(
    "div",
    { class: "pl-cut-scale pl-caption" },
    element("span", {}, "time", element("br"), `to ${milliseconds(scales[0])}`),
    element("span", {}, "layer"),
    element("span", {}, "bytes", element("br"), `to ${bytes(scales[1])}`),
  );
  const node = element(
    "div",
    { class: "pl-cut-row" },
    element("div", {}),
    brackets,
    scale,
    row,
    element("div", {}),
    beneath,
  );
  const place = (layer) => `${(100 * layer) / layers}%`;
  let sizes = [];

  const handle = (cut) => {
    const grip = control("div", {
      class: "pl-cut",
      tabIndex: 0,
      role: "slider",
      ariaOrientation: "horizontal",
      title: "drag, or ← →",
    });
    const now = () => boundsOf(sizes)[cut][1];
    const go = (to) => {
      const next = moveCut(sizes, cut, to);
      if (String(next) !== String(sizes)) write(next);
    };
    const drag = (event) => {
      if (!(event.buttons & 1)) return;
      const box = row.getBoundingClientRect();
      go(Math.round((layers * (event.clientX - box.left)) / box.width));
    };
    grip.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      grip.setPointerCapture(event.pointerId);
      grip.focus({ preventScroll: true });
    });
    grip.addEventListener("pointermove", drag);
    grip.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
      const to = { Home: 0, End: layers }[event.key] ?? now() + (steps[event.key] ?? NaN);
      if (Number.isNaN(to)) return;
      event.preventDefault();
      event.stopPropagation();
      go(to);
    });
    return grip;
  };

  const homes = new Map(about.homes.map(([stage, rank]) => [stage, rank]));
  const nameOf = (stage) => {
    const several = about.homes.length > about.ranks;
    return several ? `${homes.get(stage)}` : `rank ${homes.get(stage)}`;
  };
  const show = (next, found, ghosts) => {
    sizes = next;
    const bounds = boundsOf(sizes);
    while (handles.children.length < sizes.length - 1)
      handles.append(handle(handles.children.length));
    const slow = found.ranks.map((rank) => rank.seconds >= found.slowest * (1 - 1e-9));
    brackets.replaceChildren(
      ...bounds.map(([start, stop], stage) =>
        element(
          "div",
          {
            class: [
              slow[homes.get(stage)] ? "pl-slow" : "",
              (stop - start) / layers < NARROW ? "pl-tight" : "",
            ].join(" "),
            style: `left: ${place(start)}; width: calc(${place(stop - start)} - 3px)`,
            title: `stage ${stage} on rank ${homes.get(stage)}: layers ${start} to ${stop - 1}`,
          },
          element("span", {}, `${nameOf(stage)} `),
          element("b", {}, milliseconds(found.stages[stage].seconds)),
        ),
      ),
    );
    columns.forEach((column, layer) => {
      const stage = bounds.findIndex(([, stop]) => layer < stop);
      column.classList.toggle("pl-odd", stage % 2 === 1);
      column.classList.toggle("pl-slow", slow[homes.get(stage)]);
    });
    [...handles.children].forEach((grip, cut) => {
      const at = bounds[cut][1];
      grip.style.left = place(at);
      const border = found.borders[cut];
      const crossed =
        border === null ? "stays on its rank" : `${bytes(found.stages[cut].output_bytes)} cross`;
      Object.assign(grip, {
        ariaLabel: `cut ${cut + 1} of ${sizes.length - 1}`,
        ariaValueMin: String(bounds[cut][0] + 1),
        ariaValueMax: String(bounds[cut + 1][1] - 1),
        ariaValueNow: String(at),
        ariaValueText:
          `after layer ${chain.names[at - 1]}; ${nameOf(cut)} takes ` +
          `${milliseconds(found.stages[cut].seconds)}, ${nameOf(cut + 1)} ` +
          `${milliseconds(found.stages[cut + 1].seconds)}; ${crossed}`,
      });
      const small = element("span", {}, bytes(found.stages[cut].output_bytes));
      grip.replaceChildren(...(border ? [small] : []));
    });
    beneath.replaceChildren(
      ...ghosts.map(([name, other]) =>
        element(
          "div",
          { class: `pl-cut-ghost pl-${name.split(" ")[0]}`, title: `${name}: ${other.join(", ")}` },
          element("span", { class: "pl-caption" }, name),
          ...boundsOf(other)
            .slice(0, -1)
            .map(([, stop]) => element("i", { style: `left: ${place(stop)}` })),
        ),
      ),
    );
  };
  return { node, show };
}

/**
 * {node, show(found, marks)}: what each rank takes for a micro-batch, on one axis with `marks`, the
 * slowest rank of other ways to cut: [name, seconds].
 */
export function rankBars() {
  const node = element("div", { class: "pl-cut-ranks", role: "img" });
  let most = 0; // while cuts move, the scale only grows
  const show = (found, marks, filled) => {
    most = Math.max(most, 1.04 * found.slowest, ...marks.map(([, time]) => 1.04 * time));
    const wide = (time) => `${(100 * time) / most}%`;
    const lines = marks.map(([name, time]) =>
      element(
        "i",
        { class: `pl-cut-mark pl-${name.split(" ")[0]}`, style: `left: ${wide(time)}` },
        element("span", {}, `${name} ${milliseconds(time)}`),
      ),
    );
    const rows = found.ranks.map((rank, i) => {
      const slow = rank.seconds >= found.slowest * (1 - 1e-9);
      const parts = TIMES.map(([part, kind]) =>
        element("i", { class: `pl-cut-${kind}`, style: `width: ${wide(rank[part])}` }),
      );
      return element(
        "div",
        { class: `pl-cut-rank${slow ? " pl-slow" : ""}` },
        element("span", {}, `rank ${i}`),
        element("div", {}, ...parts),
        element("b", {}, milliseconds(rank.seconds)),
        element("span", { class: "pl-caption" }, filled[i] === undefined ? "" : bytes(filled[i])),
      );
    });
    node.ariaLabel = found.ranks
      .map(({ seconds }, i) => `rank ${i} takes ${milliseconds(seconds)}`)
      .join(", ");
    node.replaceChildren(element("div", { class: "pl-cut-marks" }, ...lines), ...rows);
  };
  return { node, show };
}

/** What the cuts come to, in two sentences. */
export function verdictOf(found) {
  const times = found.ranks.map(({ seconds }) => seconds);
  const equal = times.reduce((all, time) => all + time, 0) / times.length;
  const border = Math.max(0, ...found.borders.map((time) => time ?? 0));
  if (border > Math.max(...times))
    return (
      `A message over the slowest cut takes ${milliseconds(border)}, longer than any rank: ` +
      "the link decides."
    );
  const rank = times.indexOf(Math.max(...times));
  const waits = times.indexOf(Math.min(...times));
  const idle = 1 - times[waits] / times[rank];
  return (
    `Rank ${rank} is the slowest: ${digits(times[rank] / equal)} × an equal share. ` +
    (idle < 0.01
      ? "All ranks take the same."
      : `While micro-batches stream, rank ${waits} waits for ${digits(100 * idle)} % of its time.`)
  );
}
