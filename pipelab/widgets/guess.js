// A question: guess, lock, then see. What lies beneath is veiled until the answer is shown.
import { control, element } from "../plots/frontend/dom.js";
import { short } from "../plots/frontend/format.js";
import { request } from "./requests.js";

/** `items` with the one at `from` moved to `to`, within the list. */
export function moved(items, from, to) {
  const rest = items.filter((_, i) => i !== from);
  rest.splice(Math.min(items.length - 1, Math.max(0, to)), 0, items[from]);
  return rest;
}

/** The value at a height in a box, from `low` at its bottom to `high` at its top. */
export function valueAt(y, { top, height }, low, high) {
  const share = 1 - (y - top) / height;
  return low + (high - low) * Math.min(1, Math.max(0, share));
}

/** A number: a slider, and a box to type into. */
function numberInput({ low, high, step, unit }, changed) {
  const box = control("input", {
    type: "number",
    class: "pl-text pl-guess-number",
    step: "any",
    ariaLabel: `your guess${unit ? ` in ${unit}` : ""}`,
  });
  const slider = control("input", {
    type: "range",
    min: low,
    max: high,
    step,
    value: (low + high) / 2,
    ariaLabel: "your guess, on the axis",
  });
  slider.addEventListener("input", () => ((box.value = short(slider.valueAsNumber)), changed()));
  box.addEventListener("input", () => ((slider.value = box.value), changed()));
  const axis = element("div", { class: "pl-guess-axis" }, slider);
  axis.append(element("span", {}, short(low)), element("span", {}, short(high)));
  const node = element("div", { class: "pl-guess-row" }, axis, box, unit);
  const value = () => (Number.isFinite(box.valueAsNumber) ? box.valueAsNumber : null);
  return { node, value, first: box };
}

/** One of three. */
function choiceInput({ options, slug }, changed) {
  const radios = options.map((text, i) =>
    control("input", { type: "radio", name: `${slug}-${unique++}`, value: i, onchange: changed }),
  );
  for (const radio of radios) radio.name = radios[0].name;
  const rows = options.map((text, i) => element("label", {}, radios[i], ` ${text}`));
  const node = element("fieldset", { class: "pl-guess-options", ariaLabel: "answers" }, ...rows);
  const value = () => {
    const at = radios.findIndex((radio) => radio.checked);
    return at < 0 ? null : at;
  };
  return { node, value, first: radios[0] };
}
let unique = 0; // names of radio groups: two views of one question must not share theirs

/** A curve: drawn with the mouse, or one point at a time with ← → and ↑ ↓. */
function curveInput({ xs, low, high, unit, x_label: xLabel, y_label: yLabel }, changed) {
  const middle = (low + high) / 2;
  const points = xs.map((x) =>
    control("input", {
      type: "range",
      min: low,
      max: high,
      step: (high - low) / 100,
      value: middle,
      ariaLabel: `${yLabel} at ${xLabel} ${x}`,
    }),
  );
  const path = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const canvas = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  canvas.setAttribute("viewBox", "0 0 100 100");
  canvas.setAttribute("preserveAspectRatio", "none");
  canvas.append(path);
  const told = element("output", { class: "pl-caption" });
  const columns = xs.map((x, i) => element("div", { class: "pl-guess-point" }, points[i], `${x}`));
  const area = element("div", { class: "pl-guess-curve" }, canvas, ...columns);
  let touched = false;
  const draw = (at) => {
    const share = (point) => (100 * (point.valueAsNumber - low)) / (high - low);
    const places = points.map(
      (point, i) => `${(100 * (i + 0.5)) / xs.length},${100 - share(point)}`,
    );
    path.setAttribute("points", places.join(" "));
    if (at === undefined) return;
    touched = true;
    const value = `${short(points[at].valueAsNumber)} ${unit}`.trim();
    told.textContent = `${xLabel} = ${xs[at]}: ${value}`;
    changed();
  };
  points.forEach((point, i) => {
    point.addEventListener("input", () => draw(i));
    point.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      points[Math.min(xs.length - 1, Math.max(0, i + by))].focus();
    });
  });
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = Math.floor((xs.length * (event.clientX - box.left)) / box.width);
    if (at < 0 || at >= xs.length) return;
    points[at].value = valueAt(event.clientY, box, low, high);
    draw(at);
  };
  area.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    area.setPointerCapture(event.pointerId);
    points[0].focus({ preventScroll: true });
    follow(event);
  });
  area.addEventListener("pointermove", (event) => event.buttons && follow(event));
  draw();
  const ends = [high, low].map((end) => element("span", {}, `${short(end)} ${unit}`.trim()));
  const node = element(
    "div",
    {},
    element("div", { class: "pl-caption" }, `${yLabel}, over ${xLabel}. Draw, or use the arrows.`),
    element(
      "div",
      { class: "pl-guess-row" },
      element("div", { class: "pl-guess-ends pl-caption" }, ...ends),
      area,
    ),
    told,
  );
  const value = () => (touched ? points.map((point) => point.valueAsNumber) : null);
  return { node, value, first: points[0] };
}

/** An order: bars that are dragged, or moved with Shift + ← →. */
function orderInput({ items }, changed) {
  let order = [...items];
  let dragged = null;
  let touched = false;
  const node = element("div", { class: "pl-guess-order", role: "group", ariaLabel: "the order" });
  const place = (from, to, focus) => {
    if (from === null || to < 0 || to >= order.length) return;
    order = moved(order, from, to);
    touched = true;
    draw();
    if (focus) node.children[to].focus();
    changed();
  };
  const draw = () =>
    node.replaceChildren(
      ...order.map((item, i) => {
        const bar = control(
          "button",
          {
            class: `pl-cell pl-${item[0]}`,
            type: "button",
            draggable: true,
            ariaLabel: `${item}, step ${i}; Shift and an arrow move it`,
          },
          item,
        );
        bar.addEventListener("dragstart", (event) => {
          dragged = i;
          event.dataTransfer.setData("text/plain", item);
        });
        bar.addEventListener("dragover", (event) => event.preventDefault());
        bar.addEventListener("drop", (event) => (event.preventDefault(), place(dragged, i)));
        bar.addEventListener("keydown", (event) => {
          const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (!by) return;
          event.preventDefault();
          if (event.shiftKey) place(i, i + by, true);
          else node.children[Math.min(order.length - 1, Math.max(0, i + by))].focus();
        });
        return bar;
      }),
    );
  draw();
  return { node, value: () => (touched ? order : null), first: node.firstChild };
}

const INPUTS = {
  number: numberInput,
  choice: choiceInput,
  curve: curveInput,
  order: orderInput,
};

function renderGuess({ model, el }) {
  const asked = model.get("asked");
  const button = (label, className, onclick) =>
    control("button", { class: `pl-button ${className}`, type: "button", onclick }, label);
  const send = () => {
    const value = input.value();
    if (value !== null) request(model, "lock", { value });
  };
  const lock = button("Lock it in", "pl-primary", send);
  const show = button("Show me", "", () => request(model, "reveal"));
  const input = INPUTS[asked.kind](asked, () => (lock.disabled = input.value() === null));
  lock.disabled = true;
  const said = element("p", { class: "pl-guess-said", role: "status" });
  const picture = element("div", { class: "pl-guess-picture" });
  const why = element("p", {});
  const next = element("p", { class: "pl-guess-next" });
  const bar = element("div", { class: "pl-bar" }, lock, show);
  const form = element("div", {}, input.node, bar);
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target === show) return;
    event.preventDefault();
    send();
  });
  const veil = element("p", { class: "pl-veil" }, "The lab opens when your guess is locked.");
  const below = element("div", { class: "pl-beneath" });
  const draw = () => {
    const [state, about] = [model.get("state"), model.get("said")];
    const seen = state === "seen";
    form.hidden = seen;
    lock.textContent = state === "again" ? "Lock the second try" : "Lock it in";
    show.textContent = state === "again" ? "Show the answer" : "Show me";
    show.title = state === "again" ? "" : "stored as no guess";
    said.textContent = about.words ?? "";
    if (state === "again") said.textContent += " Try once more, or look. Your first guess is kept.";
    said.classList.toggle("pl-right", Boolean(about.right));
    picture.innerHTML = (seen && about.svg) || "";
    why.textContent = (seen && about.why) || "";
    next.textContent = (seen && about.what_if) || "";
    below.inert = !seen;
    below.classList.toggle("pl-veiled", !seen);
    veil.hidden = seen || !model.get("beneath");
  };
  const reveal = () => {
    const around = el.contains(document.activeElement);
    draw();
    if (!around || model.get("state") !== "seen") return;
    said.tabIndex = -1;
    said.focus();
  };
  const fill = async () => {
    const reference = model.get("beneath");
    below.replaceChildren();
    if (!reference) return;
    const lab = await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""));
    const view = await model.widget_manager.create_view(lab);
    below.replaceChildren(view.el);
  };
  el.classList.add("pipelab", "pl-guess");
  const question = element("p", { class: "pl-guess-text" }, asked.text);
  el.append(
    element("div", { class: "pl-guess-box" }, question, form, said, picture, why, next),
    element("div", { class: "pl-guess-under" }, veil, below),
  );
  model.on("change:state", reveal);
  model.on("change:said", draw);
  model.on("change:beneath", fill);
  draw();
  fill();
  return () => {
    model.off("change:state", reveal);
    model.off("change:said", draw);
    model.off("change:beneath", fill);
  };
}

export default { render: renderGuess };
