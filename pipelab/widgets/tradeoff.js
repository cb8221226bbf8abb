// What more stages per rank give and cost: two curves, and a slider for the link that moves one.
import { control, element } from "../plots/frontend/dom.js";
import { short } from "../plots/frontend/format.js";
import { setTraits } from "./requests.js";

const SIZE = { wide: 640, high: 250, left: 48, right: 490, top: 20, bottom: 212 };

/** The place with the least time per batch: {index, time}. */
export function least(rest, bubble, trips) {
  const times = bubble.map((lost, i) => rest + lost + trips[i]);
  const time = Math.min(...times);
  return { index: times.indexOf(time), time };
}

/** Where two curves over the same places cross, as {place, value}; null where they do not. */
export function crossing(falls, rises) {
  for (let i = 0; i + 1 < falls.length; i += 1) {
    const [before, after] = [rises[i] - falls[i], rises[i + 1] - falls[i + 1]];
    if (before > 0 || after < 0) continue;
    const share = before === after ? 0 : before / (before - after);
    return { place: i + share, value: falls[i] + share * (falls[i + 1] - falls[i]) };
  }
  return null;
}

function curves({ stages, bubble, trips, most, best }) {
  const { left, right, top, bottom } = SIZE;
  const across = (i) => left + ((right - left) * i) / (stages.length - 1);
  const up = (value) => bottom - ((bottom - top) * value) / most;
  const text = (x, y, said, more = "") =>
    `<text x="${x}" y="${y}" fill="currentColor" ${more}>${said}</text>`;
  const line = (values, colour) => {
    const points = values.map((value, i) => `${across(i)},${up(value)}`).join(" ");
    const dots = values.map(
      (value, i) => `<circle cx="${across(i)}" cy="${up(value)}" r="4" fill="${colour}"/>`,
    );
    const drawn = `points="${points}" fill="none" stroke="${colour}" stroke-width="3"`;
    return `<polyline ${drawn}/>${dots.join("")}`;
  };
  const parts = [text(left, 12, "time lost, of a batch that takes 100 on one device")];
  for (let value = 0; value <= most; value += 5) {
    parts.push(
      `<line x1="${left}" y1="${up(value)}" x2="${right}" y2="${up(value)}" class="pl-grid"/>`,
      text(left - 8, up(value) + 4, value, 'text-anchor="end"'),
    );
  }
  stages.forEach((v, i) => parts.push(text(across(i), bottom + 17, v, 'text-anchor="middle"')));
  parts.push(text((left + right) / 2, bottom + 34, "stages per rank v", 'text-anchor="middle"'));
  const meet = crossing(bubble, trips);
  if (meet) {
    const [x, y] = [across(meet.place), up(meet.value)];
    parts.push(`<line x1="${x}" y1="${y}" x2="${x}" y2="${bottom}" class="pl-meet"/>`);
  }
  const above = `<rect x="${left - 6}" y="${top}" width="600" height="400"/>`;
  parts.push(
    `<clipPath id="pl-above">${above}</clipPath>`,
    `<g clip-path="url(#pl-above)">${line(bubble, "#4477AA")}${line(trips, "#DDAA33")}</g>`,
  );
  parts.push(
    `<circle cx="${across(best)}" cy="${bottom}" r="6" class="pl-best"/>`,
    `<circle cx="${right + 18}" cy="${top + 8}" r="5" fill="#4477AA"/>`,
    text(right + 28, top + 12, "the bubble"),
    `<circle cx="${right + 18}" cy="${top + 30}" r="5" fill="#DDAA33"/>`,
    text(right + 28, top + 34, "more trips"),
    `<circle cx="${right + 18}" cy="${top + 52}" r="5" class="pl-best"/>`,
    text(right + 28, top + 56, "least in all"),
  );
  return parts.join("");
}

function renderTradeoff({ model, el }) {
  const [stages, latencies] = [model.get("stages"), model.get("latencies")];
  const slider = control("input", {
    type: "range",
    min: 0,
    max: latencies.length - 1,
    step: 1,
    value: model.get("at"),
    ariaLabel: "latency from rank to rank",
  });
  const shown = element("output", {});
  const picture = element("div", { class: "pl-curves" });
  const said = element("p", { class: "pl-curves-said", role: "status" });
  const draw = () => {
    const at = model.get("at");
    const [bubble, trips] = [model.get("bubble"), model.get("trips")[at]];
    const { index, time } = least(model.get("rest")[at], bubble, trips);
    slider.value = at;
    shown.textContent = latencies[at];
    const most = 2.2 * Math.max(...bubble);
    const words = `The least time per batch is ${short(time)}, with v = ${stages[index]}.`;
    const size = `viewBox="0 0 ${SIZE.wide} ${SIZE.high}" width="${SIZE.wide}"`;
    const drawn = curves({ stages, bubble, trips, most, best: index });
    picture.innerHTML = `<svg ${size} role="img" aria-label="${words}">${drawn}</svg>`;
    said.textContent = words;
  };
  slider.addEventListener("input", () => {
    setTraits(model, { at: slider.valueAsNumber });
    draw();
  });
  el.classList.add("pipelab");
  const label = element("label", { class: "pl-curves-slider" }, "latency", slider, shown);
  el.append(label, picture, said);
  model.on("change:at", draw);
  draw();
  return () => model.off("change:at", draw);
}

export default { render: renderTradeoff };
