// The line of text that restores a configuration, as Settings.text of Python writes it.

/** Up to six digits, as Python's %g has them. */
function written(value) {
  if (Array.isArray(value)) return value.map(written).join(",");
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : value;
}

/** The schedule's name, its counts, and what differs from the defaults. */
export function settingsText({ schedule, ...others }, defaults) {
  const always = ["ranks", "microbatches"];
  const differs = (name, value) => String(value) !== String(defaults[name]);
  return [
    schedule,
    ...Object.entries(others)
      .filter(([name, value]) => always.includes(name) || differs(name, value))
      .map(([name, value]) => `${name}=${written(value)}`),
  ].join(" ");
}
