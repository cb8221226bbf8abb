// The playhead's clock: play, pause, seek, speed. It knows neither canvas nor kernel.

/** Units of time (one forward) that pass per second at speed 1. */
export const PACE = 5;

export class Player {
  /**
   * onMove(time, playing) is called on every change; `frame` and `cancel` are the browser's
   * animation frames.
   */
  constructor(
    onMove,
    { frame = (f) => requestAnimationFrame(f), cancel = (id) => cancelAnimationFrame(id) } = {},
  ) {
    Object.assign(this, {
      onMove,
      frame,
      cancel,
      end: 0,
      step: 1,
      time: 0,
      speed: 1,
      playing: false,
      loop: false,
    });
    this.pending = null;
  }

  /**
   * A new picture: `end` is its latest time, `step` one unit of time. A playhead at rest stays at
   * the end.
   */
  span(end, step) {
    const resting = !this.playing && this.time >= this.end;
    this.time = resting ? end : Math.min(this.time, end);
    this.end = end;
    this.step = step;
    this.onMove(this.time, this.playing);
  }

  play() {
    if (this.playing || !(this.end > 0)) return;
    if (this.time >= this.end) this.time = 0;
    this.playing = true;
    this.last = null;
    this.pending = this.frame((now) => this.#advance(now));
    this.onMove(this.time, true);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.cancel(this.pending);
    this.onMove(this.time, false);
  }

  /** Back to the end, where the whole picture shows. */
  rest() {
    this.pause();
    this.time = this.end;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.end);
    this.last = null;
    this.onMove(this.time, this.playing);
  }

  /** Stop, and move by a number of units to a whole unit. */
  nudge(units) {
    this.pause();
    const position = this.time / this.step + units;
    this.seek((units > 0 ? Math.floor(position + 1e-9) : Math.ceil(position - 1e-9)) * this.step);
  }

  #advance(now) {
    const elapsed = this.last === null ? 0 : (now - this.last) / 1000;
    this.last = now;
    this.time = Math.min(this.end, this.time + elapsed * PACE * this.speed * this.step);
    if (this.time >= this.end && this.loop) this.time = 0;
    if (this.time >= this.end) this.playing = false;
    else this.pending = this.frame((next) => this.#advance(next));
    this.onMove(this.time, this.playing);
  }
}
