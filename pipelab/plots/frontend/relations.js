// What an action needs and what it feeds, and the data that passes between ranks. Micro-batches of
// two copies of a model have different numbers, so that kind, stage and micro-batch name an action.
// What a kind needs and where its result goes stands in its look, which Python sends: see
// plots/palette.py.
const indexes = new WeakMap();

function indexOf(timeline) {
  if (!indexes.has(timeline)) {
    const index = new Map();
    for (const bar of timeline.bars.flat())
      index.set(`${bar.kind} ${bar.stage} ${bar.microbatch}`, bar);
    indexes.set(timeline, index);
  }
  return indexes.get(timeline);
}

/** The bars of these kinds for one stage and micro-batch, those that there are. */
function find(timeline, kinds, stage, microbatch) {
  return kinds
    .map((kind) => indexOf(timeline).get(`${kind} ${stage} ${microbatch}`))
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

const trips = new WeakMap();

/** All that passes from rank to rank, as {from, to, forward} in the order in which it is sent. */
export function flights(timeline) {
  if (!trips.has(timeline)) {
    const list = [];
    for (const from of timeline.bars.flat()) {
      const { sends, sources } = timeline.looks[from.kind];
      if (!sends) continue;
      const forward = sends === "down";
      const users = find(timeline, sources, from.stage + (forward ? 1 : -1), from.microbatch);
      for (const to of users) if (to.rank !== from.rank) list.push({ from, to, forward });
    }
    trips.set(
      timeline,
      list.sort((a, b) => a.from.end - b.from.end),
    );
  }
  return trips.get(timeline);
}

/** How long something is seen under way: the latency, or a short hop where there is none. */
export function hop(timeline) {
  return Math.max(timeline.latency ?? 0, 0.4 * timeline.step);
}

/** What is under way at `moment`: {from, to, forward, done} with `done` from 0 to 1. */
export function underWay(timeline, moment) {
  const list = flights(timeline);
  const length = hop(timeline);
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].from.end <= moment - length) low = middle + 1;
    else high = middle;
  }
  const found = [];
  for (let i = low; i < list.length && list[i].from.end <= moment; i += 1) {
    found.push({ ...list[i], done: (moment - list[i].from.end) / length });
  }
  return found;
}
