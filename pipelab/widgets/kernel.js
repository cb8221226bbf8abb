// Whether the kernel is there, and what a person can do where it is not.
import { element } from "../plots/frontend/dom.js";
import { request } from "./requests.js";

const PATIENCE = 1500; // milliseconds: an answer that takes longer is told
const OF_THE_LAB = {
  gone:
    "The kernel that made this lab has ended. Costs still move, and the picture plays; for " +
    "counts, schedules and real runs, run this cell again.",
  busy: "The kernel is busy with another cell: costs move, the rest waits for it.",
};

/** What JupyterLab knows of the kernel: a connection with `status`, or nothing. */
function connectionOf(model) {
  const manager = model.widget_manager;
  return manager?.kernel ?? manager?.context?.sessionContext?.session?.kernel ?? null;
}

/**
 * {node, gone(), waits(whether), watch, close}: `waits` hears whether the picture waits for the
 * kernel, `changed` is called when it turns out to be gone, or to be there after all. `words`: what
 * is said then, and while it is busy.
 */
export function kernelNotice(model, changed, words = OF_THE_LAB) {
  const node = element("div", { class: "pl-notice", role: "status", hidden: true });
  if (model.alone) return { node, gone: () => true, waits: () => {}, watch: {}, close: () => {} };
  const connection = connectionOf(model);
  let gone = false;
  let waiting = false;
  let timer = null;

  const tell = (text) => {
    node.textContent = text;
    node.hidden = !text;
  };
  const become = (now) => {
    if (gone === now) return;
    gone = now;
    tell(gone ? words.gone : "");
    changed();
  };
  const late = () => {
    timer = null;
    if (!waiting || gone) return;
    if (connection?.status === "busy") tell(words.busy);
    else become(true); // nothing keeps it from answering
    timer = setTimeout(late, PATIENCE);
  };
  const waits = (whether) => {
    if (gone) return;
    waiting = whether;
    if (!waiting) {
      clearTimeout(timer);
      timer = null;
      tell("");
    } else timer ??= setTimeout(late, PATIENCE);
  };
  const status = (_, now) => {
    if (["dead", "restarting", "autorestarting"].includes(now)) become(true);
  };
  connection?.statusChanged?.connect(status);

  // A lab that was saved with the notebook has no kernel that knows it: nobody answers.
  let answered = false;
  let asked = 0;
  const hello = () => {
    if (answered || gone) return;
    if (connection?.status === "busy") return void setTimeout(hello, PATIENCE);
    asked += 1;
    if (asked > 2) return void become(true);
    request(model, "hello");
    return void setTimeout(hello, PATIENCE / 2);
  };
  hello();
  return {
    node,
    gone: () => gone,
    waits,
    watch: {
      "msg:custom": ({ hello: there }) => there && ((answered = true), become(false)),
      "change:predicted": () => become(false), // it was only late
    },
    close: () => {
      answered = true;
      clearTimeout(timer);
      connection?.statusChanged?.disconnect(status);
    },
  };
}
