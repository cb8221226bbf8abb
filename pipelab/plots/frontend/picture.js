// The picture: a canvas with the timelines, and over it one with playhead, hover and journey that
// redraws alone.
import { readTheme } from "./colour.js";
import { element, control } from "./dom.js";
import {
  drawAxis,
  drawBars,
  drawGrid,
  drawJourney,
  drawLabels,
  drawNames,
  drawPlayhead,
  drawTracks,
} from "./draw.js";
import { hit, layout } from "./layout.js";
import {
  drawCauses,
  drawCursor,
  drawDrops,
  drawFlights,
  drawGap,
  drawPath,
  drawRelations,
} from "./marks.js";
import { SLIDE, alike, canSlide, eased, way } from "./motion.js";
import { Raster } from "./raster.js";
import { drawGhost, drawPeaks, drawStrips } from "./strips.js";
import { running } from "./timeline.js";
import { aboutLane, aboutMemory, narration } from "./tips.js";

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

const HINT =
  "Space plays, arrow keys step, dragging scrubs; point at a bar to follow its micro-batch.";
const STILL = 4; // pixels that a pointer may move and still click

export class Picture {
  /**
   * `player` is the clock that this picture shows and, by keys and pointer, moves; one that leads
   * also sets its end.
   */
  constructor(player, { leads = true } = {}) {
    this.player = player;
    this.leads = leads;
    this.timelines = [];
    // what explains the picture, as Python sends it
    this.marks = { causes: null, path: null, gap: null };
    this.ghost = null; // the timeline before the last move: its memory is shown as a thin line
    this.hint = HINT;
    this.rank = null; // where the keyboard's cursor stands, once it has been moved
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
    this.theme.observe(document.body, {
      attributes: true,
      attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"],
    });
  }

  detach() {
    this.player.pause();
    this.resize.disconnect();
    this.theme.disconnect();
  }

  /**
   * Show these timelines, one lane each on every rank, on one time axis; `description` is what a
   * screen reader says, `end` the end of the axis if another picture shares it.
   */
  show(timelines, description, end = 0) {
    const axis = timelines.map((timeline) => timeline.source + timeline.unit).join();
    // another kind of picture: a moment of the old one means nothing here
    if (this.leads && axis !== this.axis) this.player.rest();
    this.axis = axis;
    const before = { timelines: this.timelines, end: this.end };
    this.timelines = timelines;
    this.base.ariaLabel = description;
    this.end = Math.max(end, ...timelines.map((t) => t.end));
    this.hover = null;
    this.tip.hidden = true;
    this.node.hidden = timelines.length === 0;
    this.#arrive(before);
    if (this.leads) this.player.span(this.end, timelines.length ? timelines[0].step : 1);
    else this.drawOverlay();
  }

  /** Explain the picture: causes of idle time, critical path, a chosen gap. */
  mark(marks) {
    Object.assign(this.marks, marks);
    this.draw();
  }

  draw() {
    this.#paint();
    this.drawOverlay();
  }

  /** Paint what is new: at once, or sliding there if nothing else changes meanwhile. */
  #arrive(before) {
    if (alike(before.timelines, this.timelines)) {
      if (!this.sliding) this.#paint();
      return;
    }
    const now = performance.now();
    const hurried = now - (this.arrived ?? -Infinity) < SLIDE;
    this.arrived = now;
    cancelAnimationFrame(this.frame);
    this.sliding = false;
    const still =
      hurried ||
      !canSlide(before.timelines, this.timelines) ||
      matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still) return this.#paint();
    const [at, to] = [way(before.timelines[0], this.timelines[0]), this.end];
    const slide = (time) => {
      const share = eased((time - now) / SLIDE);
      this.sliding = share < 1;
      if (!this.sliding) return this.draw();
      this.#paint([at(share)], before.end + (to - before.end) * share);
      this.drawOverlay();
      this.frame = requestAnimationFrame(slide);
    };
    return slide(now);
  }

  #paint(timelines = this.timelines, end = this.end) {
    const width = Math.floor(this.node.clientWidth);
    // hidden by the notebook: the observer calls again
    if (width === 0 || timelines.length === 0) return;
    this.colours = readTheme(this.node);
    const ranks = Math.max(...timelines.map((t) => t.ranks));
    const geometry = (this.geometry = layout({
      width,
      ranks,
      timelines: timelines.length,
      end,
      tall: timelines.at(-1).parts.length > 1,
    }));
    const context = fit(this.base, width, geometry.height);
    const ratio = this.base.width / width;
    const { width: across, height: down } = this.base;
    if (this.image?.width !== across || this.image.height !== down)
      this.image = context.createImageData(across, down);
    const raster = new Raster(this.image, ratio);
    drawTracks(raster, geometry, this.colours);
    drawGrid(raster, geometry, end, this.colours);
    if (this.marks.causes) drawCauses(raster, geometry, timelines, this.marks.causes, this.colours);
    timelines.forEach((timeline, index) =>
      drawBars(raster, geometry, index, timeline, this.colours),
    );
    drawStrips(raster, geometry, timelines, this.colours);
    if (this.ghost) drawGhost(raster, geometry, this.ghost, timelines[0], this.colours);
    context.putImageData(raster.image, 0, 0);
    timelines.forEach((timeline, index) =>
      drawLabels(context, geometry, index, timeline, this.colours),
    );
    drawAxis(context, geometry, end, timelines[0].unit, this.colours);
    drawNames(context, geometry, timelines, this.colours);
    drawPeaks(context, geometry, this.timelines.at(-1), this.colours);
    if (this.marks.path) drawPath(context, geometry, timelines, this.marks.path, this.colours);
    this.base.dispatchEvent(new CustomEvent("pipelab-painted", { bubbles: true }));
  }

  /** Playhead and hovered micro-batch; runs at every animation frame while playing. */
  drawOverlay() {
    if (!this.geometry) return;
    const { geometry, player, colours, timelines } = this;
    const context = fit(this.overlay, geometry.width, geometry.height);
    const moment = Math.min(player.time, this.end);
    const bar = player.playing ? null : this.hover?.bar;
    if (bar) drawJourney(context, geometry, timelines, bar.microbatch, colours);
    drawPlayhead(context, geometry, moment, this.end, colours);
    if (bar) drawRelations(context, geometry, timelines, this.hover.lane, bar, colours);
    if (this.marks.gap) drawGap(context, geometry, timelines, this.marks.gap, colours);
    if (moment < this.end)
      for (const draw of [drawFlights, drawDrops])
        draw(context, geometry, timelines.length - 1, timelines.at(-1), moment, colours);
    if (this.rank !== null) drawCursor(context, geometry, this.rank, moment, colours);
  }

  /** One line: the moment, and what every rank does then; at the end, what a person can do here. */
  narrate(moment) {
    if (this.timelines.length === 0) return "";
    return moment >= this.end ? this.hint : narration(this.timelines.at(-1), moment);
  }

  /** The keyboard's cursor, to another rank. */
  #step(ranks) {
    const last = Math.max(...this.timelines.map((t) => t.ranks)) - 1;
    this.rank =
      this.rank === null ? (ranks > 0 ? 0 : last) : Math.min(Math.max(this.rank + ranks, 0), last);
    this.drawOverlay();
  }

  /** Asks for the reason of the idle time of a rank at a moment: whoever can explain listens. */
  #ask(rank, moment, index) {
    const timeline = this.timelines[index];
    if (rank >= timeline.ranks || running(timeline, rank, moment).length) return;
    this.base.dispatchEvent(
      new CustomEvent("pipelab-gap", {
        bubbles: true,
        detail: { rank, moment, source: timeline.source },
      }),
    );
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
      ArrowDown: () => this.#step(1),
      ArrowUp: () => this.#step(-1),
      Enter: () =>
        this.#ask(
          this.rank ?? 0,
          Math.min(this.player.time, this.end * (1 - 1e-6)),
          this.timelines.length - 1,
        ),
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
      this.pressed = [event.offsetX, event.offsetY];
      scrub(event);
    });
    this.base.addEventListener("pointerup", ({ offsetX: x, offsetY: y }) => {
      const found =
        this.pressed &&
        Math.hypot(x - this.pressed[0], y - this.pressed[1]) < STILL &&
        hit(this.geometry, x, y);
      this.pressed = null;
      if (found && found.lane !== null && this.timelines[found.lane])
        this.#ask(found.row.rank, this.geometry.time(x), found.lane);
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
    const { row, lane } = found;
    this.tip.textContent =
      lane === null
        ? aboutMemory(this.timelines, row.rank, moment)
        : aboutLane(this.timelines[lane], row.rank, moment, this.hover.bar);
    const room = this.geometry.width - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(0, Math.min(x + 14, room))}px`;
    this.tip.style.top = `${y + 18}px`;
  }
}
