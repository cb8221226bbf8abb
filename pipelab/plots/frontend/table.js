// The timeline as a table of text, for screen readers and for whoever wants the times: made when it
// is opened.
import { control, element } from "./dom.js";
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

/** {node, show(timelines)}: a closed `details` with the table of what is shown. */
export function actionTable() {
  const body = element("div", { class: "pl-scroll" });
  const node = element(
    "details",
    { class: "pl-more" },
    control("summary", {}, "Timeline as a table"),
    body,
  );
  let shown = [];
  const fill = () => {
    if (!node.open) return;
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
    body.replaceChildren(...rest, table);
  };
  node.addEventListener("toggle", fill);
  return { node, show: (timelines) => ((shown = timelines), fill()) };
}
