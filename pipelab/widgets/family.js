// Schedules as points between two prices. A click, or Enter on the one in focus, shows it in the
// lab beneath.
import { element } from "../plots/frontend/dom.js";
import { setTraits } from "./requests.js";

const FIELD = { wide: 640, high: 340, left: 56, right: 520, top: 26, bottom: 292 };
const HUES = ["#4477AA", "#DDAA33", "#BB5566", "#44BB99", "#AA4499", "#999933"];

/**
 * Where points and their names stand: {name, x, y, down}, x and y in pixels. A name moves down
 * where it would lie on another.
 */
export function placed(points, { left, right, top, bottom } = FIELD) {
  const most = (axis) => 1.05 * Math.max(...points.map((point) => point[axis])) || 1;
  const [mostX, mostY] = [most(1), most(2)];
  const taken = [];
  return points.map(([name, a, b]) => {
    const x = left + ((right - left) * a) / mostX;
    const y = bottom - ((bottom - top) * b) / mostY;
    let down = 4;
    while (taken.some(([u, v]) => Math.abs(u - x) < 110 && Math.abs(v - y - down) < 15)) down += 15;
    taken.push([x, y + down]);
    return { name, x, y, down, mostX, mostY };
  });
}

function axes({ mostX, mostY }, [xLabel, yLabel]) {
  const { left, right, top, bottom } = FIELD;
  const text = (x, y, said, anchor) =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="currentColor">${said}</text>`;
  const parts = [text(left, 14, yLabel, "start")];
  for (let value = 0; value <= mostY; value += 5) {
    const y = bottom - ((bottom - top) * value) / mostY;
    parts.push(`<line x1="${left}" y1="${y}" x2="${right}" y2="${y}" class="pl-grid"/>`);
    parts.push(text(left - 8, y + 4, value, "end"));
  }
  for (let value = 0; value <= mostX; value += 5) {
    parts.push(text(left + ((right - left) * value) / mostX, bottom + 18, value, "middle"));
  }
  parts.push(text((left + right) / 2, bottom + 38, xLabel, "middle"));
  return parts.join("");
}

function renderFamily({ model, el }) {
  const picture = element("div", { class: "pl-curves" });
  const below = element("div", {});
  const draw = () => {
    const [spots, chosen] = [placed(model.get("points")), model.get("chosen")];
    const around = document.activeElement?.dataset?.name;
    const marks = spots.map(
      ({ name, x, y, down }, i) =>
        `<g role="button" tabindex="0" data-name="${name}" aria-pressed="${name === chosen}" ` +
        `aria-label="${name}"><circle cx="${x}" cy="${y}" r="8" fill="${HUES[i % HUES.length]}"/>` +
        `<text x="${x + 13}" y="${y + down}">${name}</text></g>`,
    );
    const size = `viewBox="0 0 ${FIELD.wide} ${FIELD.high}" width="${FIELD.wide}"`;
    const drawn = axes(spots[0], model.get("labels"));
    picture.innerHTML = `<svg ${size}>${drawn}${marks.join("")}</svg>`;
    if (around) picture.querySelector(`[data-name="${around}"]`)?.focus();
  };
  const choose = (event) => {
    const name = event.target.closest("[data-name]")?.dataset.name;
    if (!name) return;
    setTraits(model, { chosen: name });
    draw();
  };
  picture.addEventListener("click", choose);
  picture.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    choose(event);
  });
  const show = async () => {
    const reference = model.get("beneath").replace("IPY_MODEL_", "");
    const lab = await model.widget_manager.get_model(reference);
    const view = await model.widget_manager.create_view(lab);
    below.replaceChildren(view.el);
  };
  el.classList.add("pipelab");
  el.append(picture, below);
  model.on("change:chosen", draw);
  draw();
  show();
  return () => model.off("change:chosen", draw);
}

export default { render: renderFamily };
