// What stands under the picture, one thing at a time: a row of tabs that open in place, and close.
import { control, element } from "../plots/frontend/dom.js";

/**
 * tabs([{name, label, title, node}], opened): {node, open(name), offer(names)}. `opened` hears
 * which is open, or null; `offer` says which can be chosen.
 */
export function tabs(entries, opened) {
  let current = null;
  const choose = (name) => {
    current = name;
    entries.forEach((entry, i) => {
      entry.node.hidden = entry.name !== name;
      buttons[i].ariaSelected = String(entry.name === name);
      buttons[i].tabIndex = entry.name === (name ?? entries[0].name) ? 0 : -1;
    });
    opened(name);
  };
  const buttons = entries.map(({ name, label, title, node }, i) => {
    Object.assign(node, { role: "tabpanel", ariaLabel: label, hidden: true });
    const button = control(
      "button",
      { class: "pl-tab", type: "button", role: "tab", title, ariaSelected: "false" },
      label,
    );
    button.tabIndex = i === 0 ? 0 : -1; // one stop of the keyboard; arrows go on
    button.addEventListener("click", () => choose(current === name ? null : name));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const there = buttons.filter(({ hidden }) => !hidden);
      there.at((there.indexOf(buttons[i]) + step) % there.length).focus();
    });
    return button;
  });
  const row = element("div", { class: "pl-tabs", role: "tablist" }, ...buttons);
  return {
    node: element("div", {}, row, ...entries.map((entry) => entry.node)),
    open: (name) => current !== name && choose(name),
    offer: (names) => {
      entries.forEach(({ name }, i) => (buttons[i].hidden = !names.includes(name)));
      if (current && !names.includes(current)) choose(null);
    },
  };
}
