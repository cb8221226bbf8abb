// What a page tells its Python widget: new values of traits, and requests.

const given = new WeakMap(); // of each model: the values that this page gave since its last request

/** Give traits, by name, new values: here at once, in Python when the kernel comes to it. */
export function setTraits(model, traits) {
  for (const [name, value] of Object.entries(traits)) model.set(name, value);
  model.save_changes();
  given.set(model, { ...given.get(model), ...traits });
}

/**
 * Ask Python for an action, `about` being its arguments. ipywidgets holds new values back while the
 * kernel works, but no messages: so the request takes those along that it would overtake.
 */
export function request(model, action, about = {}) {
  const changed = Object.entries(given.get(model) ?? {}).filter(
    ([name, value]) => model.get(name) === value,
  );
  given.delete(model);
  model.send({ ...about, action, changed: Object.fromEntries(changed) });
}
