// Why ranks stand idle: a stacked bar per rank, with a legend, and the explanation of one gap.
import { control, element } from "../plots/frontend/dom.js";
import { percent, time } from "../plots/frontend/format.js";

const HATCHING = {
  "/": "repeating-linear-gradient(135deg, #0006 0 1px, #0000 1px 5px)",
  "|": "repeating-linear-gradient(90deg, #0006 0 1px, #0000 1px 5px)",
  x:
    "repeating-linear-gradient(135deg, #0006 0 1px, #0000 1px 5px), " +
    "repeating-linear-gradient(45deg, #0006 0 1px, #0000 1px 5px)",
  ".": "radial-gradient(#0007 1px, #0000 1.4px) 0 0 / 5px 5px",
};

/** Of the makespan: what is less is the rounding of sums. */
const ROUNDING_SHARE = 1e-9;

/** How a cause is filled, as CSS: its pattern over its colour. */
export function background({ colour, dark: darker, pattern }, dark) {
  const fill = dark ? darker : colour;
  return pattern ? `${HATCHING[pattern]}, ${fill}` : fill;
}

/**
 * For every rank its idle time by cause: [{look, value, share}], longest list of causes that appear
 * at all.
 */
export function shares({ looks, totals, makespan }) {
  const ranks = Object.values(totals)[0].length;
  return Array.from({ length: ranks }, (_, rank) =>
    looks
      .map((look) => ({
        look,
        value: totals[look.cause][rank],
        share: totals[look.cause][rank] / (makespan || 1),
      }))
      .filter(({ share }) => share > ROUNDING_SHARE),
  );
}

/** {node, show(causes, unit, dark)}: idle time of every rank by cause, as parts of the makespan. */
export function breakdown() {
  const node = element("div", { class: "pl-breakdown", hidden: true });
  const show = (causes, unit, dark) => {
    node.hidden = !causes.totals;
    if (node.hidden) return;
    const rows = shares(causes);
    const used = causes.looks.filter((look) =>
      rows.some((row) => row.some((part) => part.look === look)),
    );
    const bars = rows.map((row, rank) => {
      const idle = row.reduce((sum, { value }) => sum + value, 0);
      const parts = row.map(({ look, value, share }) =>
        element("span", {
          style: `width: ${100 * share}%; background: ${background(look, dark)}`,
          title: `${look.title}: ${time(value, unit)}`,
        }),
      );
      const told = row.map(({ look, value }) => `${look.title} ${time(value, unit)}`).join(", ");
      const bar = element(
        "div",
        {
          class: "pl-breakdown-bar",
          role: "img",
          ariaLabel: `rank ${rank} idle: ${told || "never"}`,
        },
        ...parts,
      );
      return element(
        "div",
        { class: "pl-breakdown-row" },
        element("span", {}, `rank ${rank}`),
        bar,
        element("span", { class: "pl-value" }, time(idle, unit)),
        element("span", { class: "pl-caption" }, percent(idle / (causes.makespan || 1))),
      );
    });
    const keys = used.map((look) =>
      element(
        "span",
        { class: "pl-key", title: look.meaning },
        element("span", { class: "pl-swatch", style: `background: ${background(look, dark)}` }),
        look.title,
      ),
    );
    node.replaceChildren(
      element(
        "div",
        { class: "pl-title" },
        `Idle time by cause, ${causes.source}`,
        element(
          "span",
          { class: "pl-caption" },
          "length: share of the makespan; the gaps above have the same patterns",
        ),
      ),
      element("div", { class: "pl-legend" }, ...keys),
      ...bars,
    );
  };
  return { node, show };
}

/**
 * {node, show(explanation, unit)}: why one gap is there; `close` is called when the reader has had
 * enough.
 */
export function explanationBox(close) {
  const node = element("div", { class: "pl-explanation", role: "status", hidden: true });
  const show = (about, unit) => {
    node.hidden = !about.cause;
    if (node.hidden) return;
    const away = control(
      "button",
      {
        class: "pl-button pl-small",
        type: "button",
        ariaLabel: "close the explanation",
        onclick: close,
      },
      "×",
    );
    const length = time(about.end - about.start, unit);
    const span = `${time(about.start, unit)} to ${time(about.end, unit)} (${length})`;
    const where = `rank ${about.rank}, ${span}, ${about.source}`;
    const line = (label, text) => element("p", {}, element("b", {}, label), ` ${text}`);
    node.replaceChildren(
      element(
        "div",
        { class: "pl-title" },
        `Idle: ${about.title}`,
        element("span", { class: "pl-caption" }, where),
        away,
      ),
      line("Why", `${about.why} ${about.ended}`),
      line("Could it be used?", about.choice),
      ...(about.remedy ? [line("What would help", about.remedy)] : []),
    );
  };
  return { node, show };
}
