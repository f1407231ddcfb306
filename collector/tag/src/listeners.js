// Clicks on links, and forms that the page marked.

import { readContact } from "./contact.js";
import { record } from "./hits.js";
import { on } from "./safely.js";

function clicked(event) {
  // The right button opens a menu, it does not follow the link.
  if (event.button > 1) return;
  const link = event.composedPath()[0].closest("a[href],area[href]");
  // Throws, and so ends here, where there is no link, or one without an address, as in SVG.
  record("link", { target: new URL(link.href).href });
}

function submitted({ target }) {
  const form = target.getAttribute("data-hitmeter-form");
  if (form === null) return;
  record("form", {
    contact: readContact(target.elements),
    properties: { form: form || target.getAttribute("id") },
  });
}

export function listen() {
  on(document, "click", clicked);
  on(document, "auxclick", clicked);
  on(document, "submit", submitted);
}
