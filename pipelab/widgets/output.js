// What a person takes away: files of the picture, and a line of text that brings the configuration
// back.
import { control, element } from "../plots/frontend/dom.js";
import { request } from "./requests.js";

const FORMATS = [
  ["svg", "SVG", "a drawing, for a paper or a slide"],
  ["html", "Page that plays", "one HTML file that plays without a kernel"],
  ["csv", "CSV", "the order of the actions, in the notation of torch.distributed.pipelining"],
  ["json", "Perfetto trace", "for ui.perfetto.dev and chrome://tracing"],
];

function save(name, blob) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** The picture as it is, on the paper of its theme, as a PNG. */
function png(picture, name) {
  const { base, colours } = picture;
  const canvas = element("canvas", { width: base.width, height: base.height });
  const context = canvas.getContext("2d");
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(base, 0, 0);
  canvas.toBlob((blob) => save(name, blob), "image/png");
}

/**
 * {node, requests, say, watch}: buttons, of which the kernel answers those in `requests`, and a
 * line of text. Python answers a request with a custom message
 * {file, text}.
 */
export function output(model, viewer) {
  const button = (label, title, act) =>
    control("button", { class: "pl-button pl-small", type: "button", title, onclick: act }, label);
  const image = button(
    "PNG",
    "the picture as it is now",
    () => viewer.picture.colours && png(viewer.picture, `${model.get("schedule")}.png`),
  );
  const files = FORMATS.map(([format, label, title]) =>
    button(label, title, () => request(model, "export", { format })),
  );
  const requests = element("span", { class: "pl-needs" }, ...files);
  const text = control("input", {
    class: "pl-text",
    readOnly: true,
    ariaLabel: "this configuration as text",
  });
  const copy = button(
    "Copy",
    'pipelab.lab("…") with this text restores the configuration',
    async () => {
      text.select();
      await navigator.clipboard?.writeText(text.value);
    },
  );
  const hint = element(
    "span",
    { class: "pl-caption" },
    'in Python: lab.figure() to zoom into, lab.save("file.svg"), lab.sweep("microbatches")',
  );
  const node = element(
    "div",
    {},
    element("div", { class: "pl-bar" }, image, requests),
    element("div", { class: "pl-bar" }, text, copy),
    hint,
  );
  const say = (line) => (text.value = `pipelab.lab("${line}")`);
  const received = ({ file, text: content, type }) =>
    file && save(file, new Blob([content], { type }));
  return { node, requests, say, watch: { "msg:custom": received } };
}
