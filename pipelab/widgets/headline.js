// The big numbers over the picture, each with what the last move has changed.
import { element } from "../plots/frontend/dom.js";
import { number, short } from "../plots/frontend/format.js";
import { difference } from "./compare.js";

const USUAL = [["time_per_batch", "makespan"], ["bubble_fraction"], ["peak_memory"]];

/** What stands under a number: what it means, in a few words. */
function meaning(key, timeline, of) {
  const { ranks } = timeline;
  if (key === "time_per_batch")
    return `${short(rounded(of("speed_up")))} × one device${ranks > 1 ? ` (of ${ranks})` : ""}`;
  if (key === "bubble_fraction") return "of the ranks' time is idle";
  if (key === "bubble_rate") return "of the longest span is idle";
  if (key !== "peak_memory") return "";
  const what = timeline.memory_unit === "bytes" ? "" : "activations ";
  return `${what}on the fullest rank`;
}

/**
 * The numbers to show, in order: [key, …], of those that the timeline has. `wanted` are keys, or
 * nothing for the usual three.
 */
export function chosen(timeline, wanted) {
  const known = new Set(timeline.numbers.map(({ key }) => key));
  const lists = wanted.length ? wanted.map((key) => [key]) : USUAL;
  return lists.flatMap((keys) => keys.find((key) => known.has(key)) ?? []);
}

/** To three digits: more of them only flicker. */
function rounded(value) {
  return typeof value === "number" ? Number(value.toPrecision(3)) : value;
}

function bigNumber({ label, value, form }, timeline, under, change) {
  const text = number(rounded(value), form, timeline.unit, timeline.memory_unit);
  const verdict = change?.verdict && `pl-${change.verdict}`;
  return element(
    "div",
    { class: "pl-big" },
    element("span", { class: "pl-big-label" }, label),
    element("b", {}, text),
    element("span", { class: `pl-big-change ${verdict ?? ""}` }, change?.text ?? ""),
    element("span", { class: "pl-caption" }, under),
  );
}

/**
 * {node, show(timelines, before)}: of several timelines the last is shown, with the first under it;
 * `before` is the timeline before the last move.
 */
export function headline(model) {
  const node = element("div", { class: "pl-headline", role: "status", ariaLabel: "main numbers" });
  const show = (timelines, before) => {
    const shown = timelines.findLast(({ numbers }) => numbers.length);
    node.hidden = !shown;
    if (!shown) return;
    const find = (timeline, key) => timeline?.numbers.find((n) => n.key === key);
    const of = (key) => find(shown, key)?.value;
    const [predicted] = timelines;
    const boxes = chosen(shown, model.get("numbers")).map((key) => {
      const now = find(shown, key);
      const { unit, memory_unit: memoryUnit } = predicted;
      const comparable = key !== "peak_memory" || memoryUnit === shown.memory_unit;
      const expected = comparable && find(predicted, key)?.value;
      if (shown !== predicted)
        return bigNumber(
          { ...now, label: `${now.label}, measured` },
          shown,
          comparable ? `predicted ${number(rounded(expected), now.form, unit, memoryUnit)}` : "",
        );
      const same = before?.unit === unit && before.memory_unit === memoryUnit;
      const old = same ? find(before, key)?.value : undefined;
      // the current value against the one before: the other way round than a pin against now
      const change = old === undefined ? null : difference(key, now.value, old);
      const text = change && change.text !== "=" ? since(old, now, predicted) : "";
      return bigNumber(now, shown, meaning(key, shown, of), text && { ...change, text });
    });
    node.replaceChildren(...boxes);
  };
  return { node, show };
}

/** What a number was before the last move: "▼ was 34.4". */
function since(old, { form, value }, { unit, memory_unit: memoryUnit }) {
  const was = number(rounded(old), form, unit, memoryUnit);
  return `${value < old ? "▼" : "▲"} was ${was}`;
}
