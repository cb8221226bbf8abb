// Numbers as a person reads them.

/** Up to four significant digits, without trailing zeros: 33, 0.25, 330.4. */
export function short(value) {
  const magnitude = Math.abs(value);
  if (magnitude >= 1000) return Math.round(value).toLocaleString("en");
  const digits = magnitude >= 100 ? 1 : magnitude >= 10 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

export function percent(fraction) {
  return `${(100 * fraction).toFixed(1)} %`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (count >= 1024 && power < units.length - 1) {
    count /= 1024;
    power += 1;
  }
  return `${count >= 100 || power === 0 ? Math.round(count) : count.toFixed(1)} ${units[power]}`;
}

/** A moment or a length of time in the picture's unit: "12" (abstract units) or "120 ms". */
export function time(value, unit) {
  return unit ? `${short(value)} ${unit}` : short(value);
}

/** An amount of memory: "4" activations, "25 %" of a batch's, or "1.2 MiB". */
export function memory(value, unit) {
  if (unit === "bytes") return bytes(value);
  return unit.startsWith("%") ? `${Number(value.toFixed(1))} %` : short(value);
}

/** Micro-batches per unit of time; per second where the unit is a millisecond. */
export function rate(value, unit) {
  return unit === "ms" ? `${short(1000 * value)} / s` : short(value);
}

/**
 * One of Python's numbers by its form: "percent", "time", "rate", "memory" or "count"; a dash where
 * there is none.
 */
export function number(value, form, unit, memoryUnit) {
  if (value === null || value === undefined) return "–";
  if (form === "percent") return percent(value);
  if (form === "time") return time(value, unit);
  if (form === "rate") return rate(value, unit);
  return form === "memory" ? memory(value, memoryUnit) : short(value);
}

/** Round axis positions 0, step, 2·step … up to `end`, at most `most` of them. */
export function ticks(end, most) {
  if (!(end > 0)) return [0];
  const rough = end / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
  return Array.from({ length: Math.floor(end / step + 1e-9) + 1 }, (_, i) =>
    Number((i * step).toPrecision(12)),
  );
}
