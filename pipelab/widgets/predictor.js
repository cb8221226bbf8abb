// What the picture shows for the settings as they are: the kernel's prediction, or while that is on
// its way (or the kernel is gone), the same order with other costs.
import { COSTS, retime } from "../plots/frontend/simulate.js";
import { integers } from "../plots/frontend/timeline.js";
import { request } from "./requests.js";
import { settingsText } from "./text.js";

const PAUSE_BEFORE_FETCHING = 150; // milliseconds without a move until neighbours are fetched
const NEAR = ["microbatches", "ranks", "stages_per_rank"];
const MANY = 1500; // bars: of larger pictures fewer neighbours are fetched

/** Whether a schedule's order depends on its costs. */
function fromCosts(model, name) {
  return model.get("catalogue").find((entry) => entry.name === name)?.from_costs ?? true;
}

/** What an order belongs to: all settings, without the costs where they do not change it. */
export function orderKey(settings, costsMatter) {
  const parts = Object.entries(settings).filter(([name]) => costsMatter || !COSTS.includes(name));
  return JSON.stringify(parts.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export const sameSettings = (a, b) => orderKey(a, true) === orderKey(b, true);

/**
 * {settings(), current(), measured(), watch}. `current()` is the message to draw, or null; `exact`
 * of it says whether the kernel made it for these settings.
 */
export function predictor(model) {
  const orders = new Map();
  const asked = new Set();
  const names = Object.keys(model.get("defaults"));

  const keyOf = (settings) => orderKey(settings, fromCosts(model, settings.schedule));
  const keep = (message) => {
    if (message.needs && message.unit === "") orders.set(keyOf(message.settings), message);
  };
  const settings = () => Object.fromEntries(names.map((name) => [name, model.get(name)]));

  const learn = () => {
    const message = model.get("predicted");
    if (message.bars) keep(message);
  };

  let made = null; // the last prediction made here, so that the same settings give the same object
  const current = () => {
    const message = model.get("predicted");
    const now = settings();
    if (message.bars && sameSettings(message.settings, now)) return message;
    if (made && sameSettings(made.settings, now)) return made;
    const order = orders.get(keyOf(now));
    if (!order) return message.bars && !model.get("problem") ? message : null;
    made = { ...retime(order, now), text: settingsText(now, model.get("defaults")) };
    return made;
  };

  /** Whether what is shown is the kernel's own, for these settings. */
  const exact = () => current() === model.get("predicted");

  /** Ask the kernel for the orders of the neighbouring counts that are not known yet. */
  let timer = null;
  const fetchSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const shown = model.get("predicted");
      if (model.alone || !shown.bars || fromCosts(model, shown.settings.schedule)) return;
      const now = settings();
      const reach = integers(shown.needs).length > MANY ? 1 : 3;
      const wanted = [];
      for (const name of NEAR) {
        const [low, high] = model.get("limits")[name];
        for (let step = 1; step <= reach; step += 1)
          for (const value of [now[name] + step, now[name] - step])
            if (value >= low && value <= high && now[name] > 0) wanted.push({ [name]: value });
      }
      const fresh = wanted.filter((change) => {
        const key = keyOf({ ...now, ...change });
        if (orders.has(key) || asked.has(key)) return false;
        return asked.add(key);
      });
      if (fresh.length) request(model, "orders", { changes: fresh });
    }, PAUSE_BEFORE_FETCHING);
  };
  const received = ({ orders: list }) => (list ?? []).forEach(keep);

  (model.get("orders") ?? []).forEach(keep); // those that a saved page has
  learn();
  fetchSoon();
  return {
    settings,
    current,
    exact,
    close: () => clearTimeout(timer),
    keep,
    watch: { "change:predicted": () => (learn(), fetchSoon()), "msg:custom": received },
  };
}
