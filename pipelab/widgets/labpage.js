// The entry of a lab that was saved as a page: its traits stand in the page itself.
import { render } from "./lab.js";
import { standIn } from "./standin.js";

const saved = JSON.parse(document.getElementById("timelines").textContent);
render({ model: standIn(saved), el: document.getElementById("pipelab") });
