// What Python sends of each kind, as far as these tests need it; test_frontend.py compares it with
// what Python has.
export const looks = [
  { letter: "F", title: "F", needs: [], sends: "down", sources: [0], cost: "forward" },
  { letter: "B", title: "B", needs: [0, 4], sends: "up", sources: [1, 2], cost: "backward" },
  { letter: "I", title: "I", needs: [0, 4], sends: "up", sources: [1, 2], cost: "input_grad" },
  { letter: "W", title: "W", needs: [2], sends: null, sources: [], cost: "weight_grad" },
  { letter: "R", title: "R", needs: [0], sends: null, sources: [], cost: "recompute" },
  { letter: "S", title: "S", needs: [], sends: null, sources: [], cost: "step" },
  { letter: "U", title: "U", needs: [], sends: null, sources: [], cost: "unshard" },
  { letter: "H", title: "H", needs: [], sends: null, sources: [], cost: "reshard" },
  { letter: "G", title: "G", needs: [], sends: null, sources: [], cost: "reduce_grad" },
];
