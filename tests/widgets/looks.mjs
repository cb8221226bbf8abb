// What Python sends of each kind, as far as these tests need it; test_frontend.py compares it with
// what Python has.
export const looks = [
  { letter: "F", title: "F", needs: [], sends: "down", sources: [0] },
  { letter: "B", title: "B", needs: [0, 4], sends: "up", sources: [1, 2] },
  { letter: "I", title: "I", needs: [0, 4], sends: "up", sources: [1, 2] },
  { letter: "W", title: "W", needs: [2], sends: null, sources: [] },
  { letter: "R", title: "R", needs: [0], sends: null, sources: [] },
  { letter: "S", title: "S", needs: [], sends: null, sources: [] },
  { letter: "U", title: "U", needs: [], sends: null, sources: [] },
  { letter: "H", title: "H", needs: [], sends: null, sources: [] },
  { letter: "G", title: "G", needs: [], sends: null, sources: [] },
];
