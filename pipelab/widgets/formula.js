// The closed form of a schedule with coloured symbols, and filled in with numbers.
import { element } from "../plots/frontend/dom.js";
import { short, time } from "../plots/frontend/format.js";

const SYMBOL = /(?<![A-Za-z])(F&B|[pmvcFBIW])(?![A-Za-z])/g;

/** The text in pieces: {text} or {symbol}. */
export function pieces(text) {
  const list = [];
  let from = 0;
  for (const match of text.matchAll(SYMBOL)) {
    if (match.index > from) list.push({ text: text.slice(from, match.index) });
    list.push({ symbol: match[0] });
    from = match.index + match[0].length;
  }
  if (from < text.length) list.push({ text: text.slice(from) });
  return list;
}

/** The text with numbers for symbols; a dot where only a symbol's place had said "times". */
export function filled(text, symbols) {
  let out = "";
  for (const { text: between, symbol } of pieces(text)) {
    if (symbol === undefined) {
      const plain = between.replace(/(\d) \(/g, "$1 · (");
      out += /[\d.]$/.test(out) && /^ ?\(/.test(plain) ? ` · ${plain.trimStart()}` : plain;
      continue;
    }
    if (/[\d.)]$/.test(out)) out += " · ";
    else if (/[\d.)] $/.test(out)) out += "· ";
    out += short(symbols[symbol]);
  }
  return out;
}

/** {node, show(formula, unit, looks)}. */
export function formulaBox() {
  const node = element("div", { class: "pl-formula", hidden: true });
  const show = (formula, unit, looks) => {
    node.hidden = !formula?.text;
    if (node.hidden) return;
    const chip = ({ text, symbol }) => {
      if (symbol === undefined) return text;
      const look = looks.find(({ letter }) => letter === symbol);
      return element(
        "span",
        {
          class: "pl-symbol",
          style: look ? `border-color: ${look.colour}; background: ${look.colour}33` : "",
        },
        symbol,
      );
    };
    const said = formula.exact
      ? ""
      : ` Here only an approximation: it holds for ${formula.condition}.`;
    node.replaceChildren(
      element(
        "div",
        {},
        element("b", {}, `${formula.quantity} = `),
        ...pieces(formula.text).map(chip),
      ),
      element(
        "div",
        {},
        "= ",
        filled(formula.text, formula.symbols),
        ` = ${time(formula.value, unit)}`,
      ),
      element(
        "div",
        { class: "pl-caption" },
        `predicted ${formula.quantity}: ${time(formula.found, unit)}.${said} ${formula.source}`,
      ),
    );
  };
  return { node, show };
}
