// A picture with its clock, bar, readout and numbers: what the live lab and a saved page have in
// common.
import { element } from "./dom.js";
import { showNumbers, spoken } from "./numbers.js";
import { Picture } from "./picture.js";
import { legend, playButtons } from "./playbar.js";
import { actionTable } from "./table.js";
import { Player } from "./player.js";
import { secondName, severalOf } from "./timeline.js";

export class Viewer {
  constructor() {
    this.others = []; // pictures that follow the same clock
    this.player = new Player((moment, playing) => this.#moved(moment, playing));
    this.picture = new Picture(this.player);
    this.buttons = playButtons(this.player);
    this.legend = element("div", { class: "pl-legend" });
    this.readout = element("div", { class: "pl-readout", ariaLive: "polite" });
    this.numbers = element("div", { class: "pl-panel" });
    this.table = actionTable();
    this.picture.base.addEventListener("pipelab-painted", () => this.#explain());
  }

  /**
   * Show unpacked timelines: the picture, what its colours mean, and the numbers. `end`: of the
   * axis, if it is shared.
   */
  show(timelines, end = 0) {
    const described = timelines.map(
      (t) => `${t.source} timeline of ${t.ranks} ranks and ${t.microbatches} micro-batches`,
    );
    this.picture.show(timelines, `${described.join(" over ")}. ${spoken(timelines)}`, end);
    showNumbers(this.numbers, timelines);
    this.table.show(timelines);
  }

  /** Once in the page: draw, and play through once unless the reader asked for less motion. */
  start() {
    this.picture.attach();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.player.play();
  }

  /** The legend, made anew when the kinds or the theme have changed. */
  #explain() {
    const { timelines, colours } = this.picture;
    const all = [...timelines, ...this.others.flatMap((picture) => picture.timelines)];
    const kinds = [...new Set(all.flatMap((timeline) => timeline.kinds))].sort();
    const [first] = timelines;
    const told = severalOf(first) && secondName(first);
    const key = `${kinds} ${first.parts} ${told} ${colours.dark}`;
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(...legend({ ...timelines[0], kinds }, colours.dark));
  }

  #moved(moment, playing) {
    if (!this.picture) return; // the player's first call comes before there is a picture
    for (const picture of [this.picture, ...this.others]) picture.drawOverlay();
    this.buttons.update(playing);
    this.readout.ariaLive = playing ? "off" : "polite";
    const line = this.picture.narrate(moment);
    if (this.readout.textContent !== line) this.readout.textContent = line;
  }
}
