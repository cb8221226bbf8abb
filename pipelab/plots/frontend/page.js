// The entry of a self-contained page: its data stands in the page itself.
import { element } from "./dom.js";
import { Viewer } from "./viewer.js";
import { unpack } from "./timeline.js";

const viewer = new Viewer();
const bar = element("div", { class: "pl-bar" }, ...viewer.buttons.nodes, viewer.legend);
document
  .getElementById("pipelab")
  .append(bar, viewer.picture.node, viewer.readout, viewer.numbers, viewer.table.node);
viewer.show(JSON.parse(document.getElementById("timelines").textContent).map(unpack));
viewer.start();
