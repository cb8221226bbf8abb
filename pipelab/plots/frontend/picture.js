// The picture: a canvas with the timelines, and over it one with playhead, hover and journey that redraws alone.
import { readTheme } from "./colour.js";
import { element, control } from "./dom.js";
import { drawAxis, drawBars, drawGrid, drawJourney, drawLabels, drawNames, drawPlayhead, drawStrips, drawTracks } from "./draw.js";
import { memory, time } from "./format.js";
import { hit, layout } from "./layout.js";
import { Raster } from "./raster.js";
import { action, gap, held, running } from "./timeline.js";

/** A canvas of `width` × `height` CSS pixels, sharp on any screen; returns its cleared context. */
function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

const HINT = "Space plays, arrow keys step, dragging scrubs; point at a bar to follow its micro-batch.";

export class Picture {
  /** `player` is the clock that this picture shows and, by keys and pointer, moves. */
  constructor(player) {
    this.player = player;
    this.timelines = [];
    this.hover = null;
    this.base = control("canvas", { tabIndex: 0, role: "img" });
    this.overlay = element("canvas", { class: "pl-overlay", ariaHidden: "true" });
    this.tip = element("div", { class: "pl-tip", hidden: true });
    this.node = element("div", { class: "pl-picture" }, this.base, this.overlay, this.tip);
    this.resize = new ResizeObserver(() => this.draw());
    this.theme = new MutationObserver(() => this.draw());
    this.#listen();
  }

  /** Start watching size and theme; call once the node is in the page. */
  attach() {
    this.resize.observe(this.node);
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  }

  detach() {
    this.player.pause();
    this.resize.disconnect();
    this.theme.disconnect();
  }

  /** Show these timelines, one lane each on every rank, on one time axis; `description` is what a screen reader says. */
  show(timelines, description) {
    const axis = timelines.map((timeline) => timeline.source + timeline.unit).join();
    if (axis !== this.axis) this.player.rest(); // another kind of picture: a moment of the old one means nothing here
    this.axis = axis;
    this.timelines = timelines;
    this.base.ariaLabel = description;
    this.end = Math.max(0, ...timelines.map((t) => t.end));
    this.hover = null;
    this.tip.hidden = true;
    this.node.hidden = timelines.length === 0;
    this.#paint();
    this.player.span(this.end, timelines.length ? timelines[0].step : 1);
  }

  draw() {
    this.#paint();
    this.drawOverlay();
  }

  #paint() {
    const width = Math.floor(this.node.clientWidth);
    if (width === 0 || this.timelines.length === 0) return; // hidden by the notebook: the observer calls again
    const { timelines, end } = this;
    this.colours = readTheme(this.node);
    const ranks = Math.max(...timelines.map((t) => t.ranks));
    const geometry = (this.geometry = layout({ width, ranks, timelines: timelines.length, end }));
    const context = fit(this.base, width, geometry.height);
    const ratio = this.base.width / width;
    const raster = new Raster(context.createImageData(this.base.width, this.base.height), ratio);
    drawTracks(raster, geometry, this.colours);
    drawGrid(raster, geometry, end, this.colours);
    timelines.forEach((timeline, index) => drawBars(raster, geometry, index, timeline, this.colours));
    drawStrips(raster, geometry, timelines, this.colours);
    context.putImageData(raster.image, 0, 0);
    timelines.forEach((timeline, index) => drawLabels(context, geometry, index, timeline, this.colours));
    drawAxis(context, geometry, end, timelines[0].unit, this.colours);
    drawNames(context, geometry, timelines, this.colours);
    this.base.dispatchEvent(new CustomEvent("pipelab-painted", { bubbles: true }));
  }

  /** Playhead and hovered micro-batch; runs at every animation frame while playing. */
  drawOverlay() {
    if (!this.geometry) return;
    const { geometry, player, colours } = this;
    const context = fit(this.overlay, geometry.width, geometry.height);
    if (this.hover?.bar && !player.playing) drawJourney(context, geometry, this.timelines, this.hover.bar.microbatch, colours);
    drawPlayhead(context, geometry, Math.min(player.time, this.end), this.end, colours);
  }

  /** One line: the moment, and what every rank does then; at the end, what a person can do here. */
  narrate(moment) {
    if (this.timelines.length === 0) return "";
    if (moment >= this.end) return HINT;
    const timeline = this.timelines.at(-1);
    const doing = timeline.bars.map((_, rank) => {
      const bars = running(timeline, rank, moment).map((bar) => action(timeline, bar));
      return `rank ${rank} ${bars.join("+") || "idle"}`;
    });
    return `${timeline.source}, at ${time(moment, timeline.unit)} of ${time(timeline.end, timeline.unit)}: ${doing.join(" · ")}`;
  }

  #listen() {
    const keys = {
      ArrowRight: () => this.player.nudge(1),
      ArrowLeft: () => this.player.nudge(-1),
      PageUp: () => this.player.nudge(10),
      PageDown: () => this.player.nudge(-10),
      Home: () => (this.player.pause(), this.player.seek(0)),
      End: () => (this.player.pause(), this.player.seek(this.end)),
      " ": () => this.player.toggle(),
    };
    this.base.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      act();
    });
    const scrub = (event) => {
      this.player.pause();
      this.player.seek(this.geometry.time(event.offsetX));
    };
    this.base.addEventListener("pointerdown", (event) => {
      if (!this.geometry) return;
      this.base.setPointerCapture(event.pointerId);
      scrub(event);
    });
    this.base.addEventListener("pointermove", (event) => {
      if (!this.geometry) return;
      if (event.buttons & 1) scrub(event);
      this.#point(event.offsetX, event.offsetY);
    });
    this.base.addEventListener("pointerleave", () => this.#point(-1, -1));
  }

  #point(x, y) {
    const found = hit(this.geometry, x, y);
    const moment = this.geometry.time(x);
    const before = this.hover?.bar;
    this.hover = found && { ...found, bar: null };
    if (found?.lane != null && this.timelines[found.lane]) {
      const timeline = this.timelines[found.lane];
      const bars = running(timeline, found.row.rank, moment);
      const lower = y > found.row.lanes[found.lane].top + found.row.lanes[found.lane].height / 2;
      this.hover.bar = bars.length > 1 && lower ? bars[1] : (bars[0] ?? null);
    }
    this.#showTip(x, y, found, moment);
    if (this.hover?.bar !== before) this.drawOverlay();
  }

  #showTip(x, y, found, moment) {
    this.tip.hidden = !found;
    if (!found) return;
    this.tip.textContent = found.lane === null ? this.#aboutMemory(found.row.rank, moment) : this.#aboutLane(found, moment);
    const room = this.geometry.width - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(0, Math.min(x + 14, room))}px`;
    this.tip.style.top = `${y + 18}px`;
  }

  #aboutLane({ row, lane }, moment) {
    const timeline = this.timelines[lane];
    if (!timeline.bars[row.rank]) return "no such rank";
    const { bar } = this.hover;
    const [from, to] = bar ? [bar.start, bar.end] : gap(timeline, row.rank, moment);
    const what = bar
      ? `${action(timeline, bar)}: ${timeline.looks[bar.kind].title} of micro-batch ${bar.microbatch}, stage ${bar.stage}`
      : "idle";
    return `rank ${row.rank}, ${timeline.source}\n${what}\n${time(from, timeline.unit)} to ${time(to, timeline.unit)} (${time(to - from, timeline.unit)})`;
  }

  #aboutMemory(rank, moment) {
    const lines = this.timelines.filter((t) => rank < t.ranks).map((timeline) => {
      const unit = timeline.memory_unit === "bytes" ? "" : ` ${timeline.memory_unit}`;
      return `${timeline.source}: ${memory(held(timeline, rank, moment), timeline.memory_unit)}${unit}`;
    });
    return [`rank ${rank}, memory at ${time(moment, this.timelines[0].unit)}`, ...lines].join("\n");
  }
}
