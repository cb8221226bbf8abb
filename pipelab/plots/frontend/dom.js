// Building elements in one call.

/**
 * element("button", {class: "x", onclick: f}, "text", child …); a property where the element has
 * one, else an attribute.
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/**
 * A control that JupyterLab's own keys leave alone: with a slider focused, "d d" would otherwise
 * delete the cell.
 */
export function control(tag, properties = {}, ...children) {
  return element(tag, { ...properties, "data-lm-suppress-shortcuts": "true" }, ...children);
}
