// What a page tells its Python widget: new values of traits, and requests.

const given = new WeakMap(); // of each model: the values that this page gave since its last request
const PAINTED = 40; // milliseconds: two frames and a little
const due = new WeakMap(); // of each model: new values that Python will hear of

function give(model, traits) {
  for (const [name, value] of Object.entries(traits)) model.set(name, value);
  given.set(model, { ...given.get(model), ...traits });
}

/** Give traits, by name, new values: here at once, in Python when the kernel comes to it. */
export function setTraits(model, traits) {
  give(model, traits);
  model.save_changes();
}

/**
 * The same for what the page draws by itself. Python hears of it once it has been painted: on a
 * machine with few processors the kernel, woken at once, would take half of the frame's time.
 */
export function setDrawn(model, traits) {
  const waiting = due.get(model);
  if (waiting) Object.assign(waiting, traits);
  else wait(model, { ...traits });
  give(model, traits);
}

/** Tell Python soon. Its answer to the value before must not take a slider back meanwhile. */
function wait(model, waiting) {
  const stay = () => model.set(waiting);
  due.set(model, waiting);
  model.on("change", stay);
  setTimeout(() => {
    model.off("change", stay);
    due.delete(model);
    model.save_changes();
  }, PAINTED);
}

/**
 * Ask Python for an action, `about` being its arguments. New values wait, for the picture or in
 * ipywidgets for the kernel, and messages do not: so a request takes along those that it would
 * overtake.
 */
export function request(model, action, about = {}) {
  const changed = Object.entries(given.get(model) ?? {}).filter(
    ([name, value]) => model.get(name) === value,
  );
  given.delete(model);
  model.send({ ...about, action, changed: Object.fromEntries(changed) });
}
