// The numbers beside a picture, each with its definition, one column per timeline.
import { element } from "./dom.js";
import { number } from "./format.js";

/**
 * Rows of cells: label, one value per timeline, definition. A timeline without numbers yet gives
 * dashes.
 */
export function numberRows(timelines) {
  const definitions = timelines.find((timeline) => timeline.numbers.length)?.numbers ?? [];
  return definitions.map(({ key, label, form, definition }) => {
    const values = timelines.map((timeline) =>
      number(
        timeline.numbers.find((n) => n.key === key)?.value,
        form,
        timeline.unit,
        timeline.memory_unit,
      ),
    );
    return { label, values, definition };
  });
}

export function numberTable(timelines) {
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, ""),
    ...timelines.map((t) => element("th", { scope: "col" }, t.source)),
    element("th", { scope: "col" }, "definition"),
  );
  const rows = numberRows(timelines).map(({ label, values, definition }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, label),
      ...values.map((v) => element("td", {}, v)),
      element("td", { class: "pl-definition" }, definition),
    ),
  );
  return element(
    "table",
    { class: "pl-numbers" },
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
}

/**
 * The table of `timelines` in `node`: made once, then only the texts that change, so that the page
 * stays as it is.
 */
export function showNumbers(node, timelines) {
  const rows = numberRows(timelines);
  const shape = JSON.stringify([timelines.map((t) => t.source), rows.map(({ label }) => label)]);
  if (node.dataset.shape !== shape) {
    node.dataset.shape = shape;
    node.replaceChildren(numberTable(timelines));
    return;
  }
  rows.forEach(({ values, definition }, i) => {
    const cells = node.querySelectorAll("tbody tr")[i].querySelectorAll("td");
    [...values, definition].forEach(
      (text, j) => cells[j].textContent === text || (cells[j].textContent = text),
    );
  });
}

/** One sentence for a screen reader. */
export function spoken(timelines) {
  return numberRows(timelines)
    .map(
      ({ label, values }) =>
        `${label} ${timelines.map((t, i) => `${t.source} ${values[i]}`).join(", ")}`,
    )
    .join("; ");
}
