// A model without a kernel, for a saved page: it has the lab's traits and listens to itself.
import { orderKey } from "./predictor.js";

/** `state`: the traits by name, with `orders` and `refusals` of the counts that the page has. */
export function standIn(state) {
  const listeners = new Map();
  const heard = (event) => {
    for (const act of [...(listeners.get(event) ?? [])]) act();
  };
  const fromCosts = (name) => state.catalogue.find((entry) => entry.name === name).from_costs;
  const keyOf = (settings) => orderKey(settings, fromCosts(settings.schedule));
  const known = new Set(state.orders.map(({ settings }) => keyOf(settings)));
  const refused = new Map(
    state.refusals.map(({ settings, problem }) => [keyOf(settings), problem]),
  );
  const names = Object.keys(state.defaults);

  const model = {
    alone: true,
    get: (name) => state[name],
    set(name, value) {
      if (state[name] === value) return;
      state[name] = value;
      if (names.includes(name)) this.judge();
      heard(`change:${name}`);
    },
    save_changes: () => {},
    send({ action }) {
      if (action !== "show_goal") return;
      for (const [name, value] of Object.entries(state.goals[state.goal].how))
        this.set(name, value);
    },
    on: (event, act) => listeners.set(event, [...(listeners.get(event) ?? []), act]),
    off: (event, act) =>
      listeners.set(
        event,
        (listeners.get(event) ?? []).filter((other) => other !== act),
      ),
    /** Say why there is no picture of the settings as they are. */
    judge() {
      const key = keyOf(Object.fromEntries(names.map((name) => [name, state[name]])));
      const missing = "This page does not have this combination: pipelab.lab has all of them.";
      this.set("problem", known.has(key) ? "" : (refused.get(key) ?? missing));
    },
  };
  return model;
}
