// The entry of a self-contained page: its data stands in the page itself.
import { control, element } from "./dom.js";
import { Viewer } from "./viewer.js";
import { unpack } from "./timeline.js";

const viewer = new Viewer();
const bar = element("div", { class: "pl-bar" }, ...viewer.buttons.nodes, viewer.legend);
const table = element("details", { class: "pl-more" }, control("summary", {}, "As a table"));
table.append(viewer.table.node);
table.addEventListener("toggle", () => viewer.table.open(table.open));
document
  .getElementById("pipelab")
  .append(bar, viewer.picture.node, viewer.readout, viewer.numbers, table);
viewer.show(JSON.parse(document.getElementById("timelines").textContent).map(unpack));
viewer.start();
