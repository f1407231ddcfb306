// The page's calls: hitmeter("identify" | "event" | "page" | "consent" | "optOut" | "optIn", ...).

import { pickContact } from "./contact.js";
import { record } from "./hits.js";
import { collector } from "./install.js";
import { abandonPage, openPage, reopenPage } from "./page.js";
import { safely } from "./safely.js";
import { forgetVisitor } from "./transport.js";
import { chooseConsent, chooseOptOut, permitted, settings } from "./visitor.js";

const CALLS = {
  consent(choice, wording) {
    decide(() => chooseConsent(choice, wording));
    record("consent");
  },
  optOut: () => opt("out"),
  optIn: () => opt("in"),
  identify(given) {
    const contact = pickContact(given);
    if (contact) record("identify", { contact });
  },
  event: (name, given) => record(String(name || "event"), { properties: properties(given) }),
  page: (given) => openPage(properties(given)),
};

/** Carries out one call; an unknown one is none. */
export const call = safely(([name, ...given]) => CALLS[name]?.(...given));

/**
 * Carries out a visitor's choice; where nothing personal is permitted after it, what there was goes. Later hits of this
 * page must not be tied to the earlier ones, as only the ones or the others carry an id: where they will, the page view
 * begins anew.
 */
function decide(choose) {
  const hadIds = permitted().ids;
  choose();
  const { personal, ids: hasIds } = permitted();
  if (!personal) forgetVisitor();
  if (hadIds && !hasIds) abandonPage();
  // Before the settings are known hits wait, and will carry the id; what went out all the same, main.js sees to.
  if (hasIds && !hadIds && settings) reopenPage();
}

function opt(way) {
  decide(() => chooseOptOut(way === "out"));
  fetch(collector + "/opt-" + way, { method: "POST", mode: "no-cors", credentials: "include", keepalive: true }).catch(() => {});
}

/** What of the properties a hit can carry. */
const properties = (given) =>
  given && Object.fromEntries(Object.entries(given).filter(([, value]) => /string|number|boolean/.test(typeof value)));
