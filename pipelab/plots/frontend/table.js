// The timeline as a table of text, for screen readers and for whoever wants the times: made when it
// is opened.
import { element } from "./dom.js";
import { time } from "./format.js";
import { action } from "./timeline.js";

const MOST_ROWS = 2000; // rows: more would stop the browser for seconds

/** Rows of text, in order of rank and time: rank, source, action, what it is, start, end. */
export function actionRows(timelines) {
  return timelines.flatMap((timeline) =>
    timeline.bars
      .flat()
      .map((bar) => [
        String(bar.rank),
        timeline.source,
        action(timeline, bar),
        timeline.looks[bar.kind].title,
        time(bar.start, timeline.unit),
        time(bar.end, timeline.unit),
      ]),
  );
}

/** {node, show(timelines), open(whether)}: the table of what is shown, made while it is open. */
export function actionTable() {
  const node = element("div", { class: "pl-scroll" });
  let shown = [];
  let open = false;
  const fill = () => {
    if (!open) return;
    const rows = actionRows(shown);
    const cells = (tag, texts) =>
      element(
        "tr",
        {},
        ...texts.map((text) => element(tag, tag === "th" ? { scope: "col" } : {}, text)),
      );
    const head = cells("th", ["rank", "timeline", "action", "kind", "start", "end"]);
    const rest =
      rows.length > MOST_ROWS
        ? [element("p", {}, `The first ${MOST_ROWS} of ${rows.length} actions.`)]
        : [];
    const table = element(
      "table",
      { class: "pl-actions" },
      element("thead", {}, head),
      element("tbody", {}, ...rows.slice(0, MOST_ROWS).map((row) => cells("td", row))),
    );
    node.replaceChildren(...rest, table);
  };
  return {
    node,
    show: (timelines) => ((shown = timelines), fill()),
    open: (now) => ((open = now), fill()),
  };
}
