// A large number with its name above and a line beneath.
import { element } from "../plots/frontend/dom.js";

/** The element of {label, value, caption}. */
export function bigOf({ label, value, caption }) {
  return element(
    "div",
    { class: "pl-big" },
    element("span", { class: "pl-big-label" }, label),
    element("b", {}, value),
    element("span", { class: "pl-caption" }, caption),
  );
}
