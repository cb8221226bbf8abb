// Play, pause, speed and the legend: the bar above a picture.
import { control, element } from "./dom.js";
import { hatch, shade } from "./colour.js";
import { PARTS } from "./strips.js";
import { secondName, severalOf } from "./timeline.js";

const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];

/**
 * Back, play, forward, loop and speed for `player`; call the returned `update(playing)` when the
 * player moves.
 */
export function playButtons(player) {
  const step = (units, text, title) =>
    control(
      "button",
      {
        class: "pl-button pl-step",
        type: "button",
        title,
        ariaLabel: title,
        onclick: () => player.nudge(units),
      },
      text,
    );
  const button = control("button", {
    class: "pl-button pl-play",
    type: "button",
    onclick: () => player.toggle(),
  });
  const loop = control(
    "button",
    {
      class: "pl-button pl-step",
      type: "button",
      title: "start over at the end",
      ariaLabel: "loop",
      ariaPressed: "false",
    },
    "↻",
  );
  loop.addEventListener("click", () => {
    player.loop = !player.loop;
    loop.ariaPressed = String(player.loop);
  });
  const speed = control("select", {
    class: "pl-select",
    ariaLabel: "speed of the playhead",
    title: "speed of the playhead",
  });
  speed.append(
    ...SPEEDS.map((s) => new Option(`${s}×`, s, s === player.speed, s === player.speed)),
  );
  speed.addEventListener("change", () => (player.speed = Number(speed.value)));
  const update = (playing) => {
    if (button.dataset.playing === String(playing)) return;
    button.dataset.playing = playing;
    button.textContent = playing ? "❚❚ Pause" : "▶ Play";
  };
  update(false);
  return {
    nodes: [
      step(-1, "◂", "one unit of time back"),
      button,
      step(1, "▸", "one unit of time on"),
      loop,
      speed,
    ],
    update,
  };
}

function swatch(look, dark) {
  const canvas = element("canvas", { width: 28, height: 14, class: "pl-swatch" });
  const context = canvas.getContext("2d");
  for (let i = 0; i < 4; i += 1) {
    context.fillStyle = shade(dark ? look.dark : look.colour, i / 3);
    context.fillRect(i * 7, 0, 7, 14);
  }
  context.fillStyle = hatch(context, look.pattern) ?? "transparent";
  context.fillRect(0, 0, 28, 14);
  return canvas;
}

/** A swatch of a part of the memory. */
function tone(part, dark) {
  const canvas = element("canvas", { width: 28, height: 14, class: "pl-swatch" });
  const context = canvas.getContext("2d");
  context.globalAlpha = part.tone;
  context.fillStyle = dark ? "#a2a8ad" : "#63696f";
  context.fillRect(0, 0, 28, 14);
  context.globalAlpha = 1;
  context.fillStyle = hatch(context, part.pattern) ?? "transparent";
  context.fillRect(0, 0, 28, 14);
  return canvas;
}

/**
 * What the colours mean: a swatch from the first to the last micro-batch for each kind in
 * `timeline`.
 */
export function legend(timeline, dark) {
  const items = timeline.kinds.map((kind) => {
    const look = timeline.looks[kind];
    return element("span", { class: "pl-key" }, swatch(look, dark), `${look.letter} ${look.title}`);
  });
  items.push(
    element("span", { class: "pl-key" }, element("span", { class: "pl-swatch pl-unused" }), "idle"),
  );
  if (severalOf(timeline)) {
    const edge = element("span", { class: "pl-swatch pl-second" });
    items.push(element("span", { class: "pl-key" }, edge, secondName(timeline)));
  }
  const parts =
    timeline.parts.length > 1 ? PARTS.filter(({ name }) => timeline.parts.includes(name)) : [];
  return [
    ...items,
    ...parts.map((part) => element("span", { class: "pl-key" }, tone(part, dark), part.title)),
  ];
}
