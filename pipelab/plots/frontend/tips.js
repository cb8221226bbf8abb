// What a picture says in words: under the pointer, and at the playhead.
import { memory, time } from "./format.js";
import { PARTS } from "./strips.js";
import { relations, underWay } from "./relations.js";
import { action, gap, held, running } from "./timeline.js";

const named = (timeline, bars) =>
  bars.map((bar) => `${action(timeline, bar)} on rank ${bar.rank}`).join(", ");

/** About the bar under the pointer, or about the idle time where there is none. */
export function aboutLane(timeline, rank, moment, bar) {
  if (!timeline.bars[rank]) return "no such rank";
  const [from, to] = bar ? [bar.start, bar.end] : gap(timeline, rank, moment);
  const lines = [`rank ${rank}, ${timeline.source}`];
  if (bar) {
    const { needs, feeds } = relations(timeline, bar);
    const whose = bar.microbatch < 0 ? "" : ` of micro-batch ${bar.microbatch}`;
    lines.push(
      `${action(timeline, bar)}: ${timeline.looks[bar.kind].title}${whose}, stage ${bar.stage}`,
    );
    if (bar.version !== undefined) {
      const makes = timeline.looks[bar.kind].letter === "S" ? "makes" : "with";
      lines.push(`${makes} version ${bar.version} of the stage's weights`);
    }
    if (needs.length) lines.push(`needs ${named(timeline, needs)}`);
    if (feeds.length) lines.push(`feeds ${named(timeline, feeds)}`);
  } else lines.push("idle");
  const { unit } = timeline;
  lines.push(`${time(from, unit)} to ${time(to, unit)} (${time(to - from, unit)})`);
  return lines.join("\n");
}

/** About the memory of a rank at a moment, part by part where there are several. */
export function aboutMemory(timelines, rank, moment) {
  const lines = [`rank ${rank}, memory at ${time(moment, timelines[0].unit)}`];
  for (const timeline of timelines.filter((t) => rank < t.ranks)) {
    const { level, parts } = held(timeline, rank, moment);
    const unit = timeline.memory_unit.replace(/^(bytes|%)/, "");
    const say = (value) => `${memory(value, timeline.memory_unit)} ${unit}`.trimEnd();
    lines.push(`${timeline.source}: ${say(level)}`);
    timeline.parts.forEach((part, i) => {
      if (parts && parts[i] > 0)
        lines.push(`  ${PARTS.find(({ name }) => name === part).title} ${say(parts[i])}`);
    });
  }
  return lines.join("\n");
}

/** Ranks about which there is room for sentences. */
const FEW = 4;

function said(timeline, bar) {
  if (timeline.ranks > FEW) return action(timeline, bar);
  const whose = bar.microbatch < 0 ? "" : ` of micro-batch ${bar.microbatch}`;
  const where = timeline.stages > timeline.ranks ? ` on stage ${bar.stage}` : "";
  return `the ${timeline.looks[bar.kind].title}${whose}${where}`;
}

/** The moment, what every rank does then, and what is on its way between ranks. */
export function narration(timeline, moment) {
  const busy = timeline.bars.map((_, rank) => running(timeline, rank, moment));
  const doing = busy.flatMap((bars, rank) => {
    const what = bars.map((bar) => said(timeline, bar)).join(" and ");
    return what ? [`rank ${rank} runs ${what}`] : [];
  });
  const idle = busy.flatMap((bars, rank) => (bars.length ? [] : [rank]));
  if (idle.length) doing.push(`${idle.length > 1 ? "ranks" : "rank"} ${idle.join(", ")} idle`);
  const moving = underWay(timeline, moment).map(({ from, to, forward }) => {
    const what = forward ? "activations" : "gradients";
    return `${what} of ${from.microbatch} from rank ${from.rank} to ${to.rank}`;
  });
  const under = moving.length ? ` → ${moving.join(", ")}` : "";
  const at = `${time(moment, timeline.unit)} of ${time(timeline.end, timeline.unit)}`;
  return `${timeline.source}, t = ${at}: ${doing.join(" · ")}${under}`;
}
