// Pinned configurations under the current one, on the same axis, with what differs in numbers.
import { control, element } from "../plots/frontend/dom.js";
import { number } from "../plots/frontend/format.js";
import { Picture } from "../plots/frontend/picture.js";
import { request } from "./requests.js";

const MORE_IS_BETTER = ["throughput", "speed_up"];
const NEITHER = ["lower_bound"];

/** The timeline in other units: `factor` of them to one of its own. */
export function rescaled(timeline, factor, unit) {
  if (factor === 1) return timeline;
  const numbers = timeline.numbers.map((n) => ({
    ...n,
    value: n.form === "time" ? n.value * factor : n.form === "rate" ? n.value / factor : n.value,
  }));
  return {
    ...timeline,
    unit,
    numbers,
    end: timeline.end * factor,
    step: timeline.step * factor,
    latency: (timeline.latency ?? 0) * factor,
    bars: timeline.bars.map((list) =>
      list.map((bar) => ({ ...bar, start: bar.start * factor, end: bar.end * factor })),
    ),
    memory: timeline.memory.map((list) =>
      list.map((step) => ({ ...step, time: step.time * factor })),
    ),
  };
}

/** What a pinned value is against the current one: {text, verdict: "better", "worse" or ""}. */
export function difference(key, value, now) {
  if (typeof value !== "number" || typeof now !== "number" || NEITHER.includes(key))
    return { text: "", verdict: "" };
  const change = value - now;
  if (Math.abs(change) <= 1e-9 * Math.max(Math.abs(value), Math.abs(now)))
    return { text: "=", verdict: "" };
  const better = MORE_IS_BETTER.includes(key) ? change > 0 : change < 0;
  const share = now
    ? `${change > 0 ? "+" : "−"}${Math.abs((100 * change) / now).toFixed(0)} %`
    : change > 0
      ? "more"
      : "less";
  return { text: share, verdict: better ? "better" : "worse" };
}

function table(current, pins) {
  const letters = "ABC";
  const head = element(
    "tr",
    {},
    element("th", {}, ""),
    element("th", { scope: "col" }, "now"),
    ...pins.map((_, i) => element("th", { scope: "col" }, letters[i])),
  );
  const same = pins.every((pin) => pin.memory_unit === current.memory_unit);
  const rows = current.numbers
    .filter(({ form }) => form !== "memory" || same)
    .map(({ key, label, form, value }) => {
      const cells = pins.map((pin) => {
        const other = pin.numbers.find((n) => n.key === key)?.value;
        const { text, verdict } = difference(key, other, value);
        return element(
          "td",
          {},
          number(other, form, pin.unit, pin.memory_unit),
          element(
            "span",
            { class: `pl-difference ${verdict && `pl-${verdict}`}` },
            text && ` ${verdict === "better" ? "▲" : verdict === "worse" ? "▼" : ""}${text}`,
          ),
        );
      });
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, label),
        element("td", {}, number(value, form, current.unit, current.memory_unit)),
        ...cells,
      );
    });
  const caption = element(
    "div",
    { class: "pl-caption" },
    "differences: the pinned configuration against the current one; ▲ better, ▼ worse",
  );
  return element(
    "div",
    {},
    element(
      "table",
      { class: "pl-numbers" },
      element("thead", {}, head),
      element("tbody", {}, ...rows),
    ),
    caption,
  );
}

/** {node, button, pinned(current) -> pins in the current unit, show(current, pins, end)}. */
export function comparison(model, viewer, unpack) {
  const node = element("div", { class: "pl-compare", hidden: true });
  const button = control(
    "button",
    {
      class: "pl-button",
      type: "button",
      title: "keep this configuration below, to compare others with it (up to three)",
    },
    "Pin",
  );
  button.addEventListener("click", () => request(model, "pin"));
  let unpacked = [];
  let known = null;
  const cards = [];

  const card = (index) => {
    const picture = new Picture(viewer.player, { leads: false });
    const text = element("span", { class: "pl-pin-text" });
    const use = control(
      "button",
      {
        class: "pl-button pl-small",
        type: "button",
        onclick: () => request(model, "use_pin", { index }),
      },
      "use",
    );
    const away = control(
      "button",
      {
        class: "pl-button pl-small",
        type: "button",
        ariaLabel: `unpin ${"ABC"[index]}`,
        onclick: () => request(model, "unpin", { index }),
      },
      "×",
    );
    const box = element(
      "div",
      { class: "pl-pin" },
      element("div", { class: "pl-bar" }, element("b", {}, "ABC"[index]), text, use, away),
      picture.node,
    );
    return { picture, text, box };
  };

  /** The pins, in the unit of the current picture where it can be known. */
  const pinned = (current) => {
    if (model.get("pins") !== known) {
      known = model.get("pins");
      unpacked = known.map(({ picture }) => unpack(picture));
    }
    const factor = current?.unit === "ms" && model.get("paced") ? model.get("pace_ms") : 1;
    return unpacked.map((pin) => rescaled(pin, factor, "ms"));
  };

  const show = (current, pins, end) => {
    node.hidden = pins.length === 0;
    button.disabled = pins.length >= 3 || !current;
    while (cards.length > pins.length) {
      const { picture, box } = cards.pop();
      picture.detach();
      box.remove();
    }
    while (cards.length < pins.length) {
      cards.push(card(cards.length));
      cards.at(-1).picture.attach();
    }
    viewer.others = cards.map(({ picture }) => picture);
    if (pins.length === 0) return;
    const numbers = current ? [table(current, pins)] : [];
    node.replaceChildren(...cards.map(({ box }) => box), ...numbers);
    cards.forEach(({ picture, text }, i) => {
      text.textContent = model.get("pins")[i].text;
      picture.show(
        [pins[i]],
        `pinned ${"ABC"[i]}: ${text.textContent}`,
        current && current.unit === pins[i].unit ? end : 0,
      );
    });
  };
  return {
    node,
    button,
    pinned,
    show,
    detach: () => cards.forEach(({ picture }) => picture.detach()),
  };
}
