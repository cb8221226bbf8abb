// What an action needs and what it feeds, and the data that passes between ranks. Micro-batches of
// two copies of a model have different numbers, so that kind, stage and micro-batch name an action.
// What a kind needs and where its result goes stands in its look, which Python sends: see
// plots/palette.py.
import { lastUpTo } from "./timeline.js";

const indexes = new WeakMap();

/** A number, for a text of each action takes most of the time of an index. */
const actionKey = (kind, stage, microbatch) => (microbatch + 1) * 65536 + stage * 32 + kind;

function indexOf(timeline) {
  if (!indexes.has(timeline)) {
    const index = new Map();
    for (const bars of timeline.bars)
      for (const bar of bars) index.set(actionKey(bar.kind, bar.stage, bar.microbatch), bar);
    indexes.set(timeline, index);
  }
  return indexes.get(timeline);
}

/** The bars of these kinds for one stage and micro-batch, those that there are. */
function find(timeline, kinds, stage, microbatch) {
  return kinds
    .map((kind) => indexOf(timeline).get(actionKey(kind, stage, microbatch)))
    .filter(Boolean);
}

/** The bars of its own stage whose results `bar` uses; not those that only another of them uses. */
function ownNeeds(timeline, bar) {
  const { looks } = timeline;
  const found = find(timeline, looks[bar.kind].needs, bar.stage, bar.microbatch);
  return found.filter(
    (need) => !found.some((other) => looks[other.kind].needs.includes(need.kind)),
  );
}

/** {needs, feeds}: bars whose results `bar` uses, and bars that use its result. */
export function relations(timeline, bar) {
  const { looks } = timeline;
  const { sends, sources } = looks[bar.kind];
  const step = { down: 1, up: -1 }[sends];
  const next = (by) => (sends ? find(timeline, sources, bar.stage + by, bar.microbatch) : []);
  const users = looks.flatMap(({ needs }, kind) => (needs.includes(bar.kind) ? [kind] : []));
  const fed = find(timeline, users, bar.stage, bar.microbatch).filter((user) =>
    ownNeeds(timeline, user).includes(bar),
  );
  return { needs: [...next(-step), ...ownNeeds(timeline, bar)], feeds: [...next(step), ...fed] };
}

/** What `from` passes to other ranks, as {from, to, forward}. */
export function passes(timeline, from) {
  const { sends, sources } = timeline.looks[from.kind];
  if (!sends) return [];
  const forward = sends === "down";
  const users = find(timeline, sources, from.stage + (forward ? 1 : -1), from.microbatch);
  return users.filter((to) => to.rank !== from.rank).map((to) => ({ from, to, forward }));
}

/** How long something is seen under way: the latency, or a short hop where there is none. */
export function hop(timeline) {
  return Math.max(timeline.latency ?? 0, 0.4 * timeline.step);
}

/** What is under way at `moment`: {from, to, forward, done} with `done` from 0 to 1, in order. */
export function underWay(timeline, moment) {
  const length = hop(timeline);
  const found = [];
  for (const bars of timeline.bars) {
    for (let i = lastUpTo(bars, "start", moment); i >= 0; i -= 1) {
      if (bars[i].end <= moment - length) break;
      const done = (moment - bars[i].end) / length;
      if (done >= 0) for (const trip of passes(timeline, bars[i])) found.push({ ...trip, done });
    }
  }
  return found.sort((a, b) => a.from.end - b.from.end);
}
