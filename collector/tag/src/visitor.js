// What the visitor has decided, and the ids that follow from it.

import { CONSENT, OPT_OUT, SESSION, THIRTEEN_MONTHS, VISITOR, readCookie, writeCookie } from "./cookies.js";
import { UUID, uuid7 } from "./ids.js";
import { STRICT, mergeConsent, permission } from "./permission.js";

/** The site's settings; null until the collector has told them. */
export let settings = null;

// Choices made on this page, for browsers that keep no cookie, and to be written again once the domain is known.
let chosenConsent;
let chosenOptOut;

const signalled = () => navigator.globalPrivacyControl || navigator.doNotTrack === "1";

export const optedOut = () => chosenOptOut ?? readCookie(OPT_OUT) === "1";

// This page's choice, else the kept one; undefined when the visitor was never asked.
function givenConsent() {
  try {
    return chosenConsent ?? JSON.parse(decodeURIComponent(readCookie(CONSENT)));
  } catch {
    // Never asked.
  }
}

/** The consent in force; undefined when the visitor was never asked. An opt-out overrules a consent to being measured. */
export const consent = () => (optedOut() ? { ...givenConsent(), measurement: false } : givenConsent());

/** What may be done now. */
export const permitted = (rules = settings || STRICT) => permission(rules, signalled() || optedOut(), consent());

/** Takes over the site's settings and brings the cookies in line with them. */
export function setSettings(told) {
  settings = told;
  keepChoices();
}

export function chooseConsent(choice, wording) {
  chosenConsent = mergeConsent(givenConsent(), choice, wording, Date.now());
  keepChoices();
}

export function chooseOptOut(out) {
  chosenOptOut = out;
  keepChoices();
}

function keepChoices() {
  const domain = settings?.cookie_domain;
  // Under a signal no cookie is kept but the one that the visitor asks for by opting out.
  if (chosenConsent && !signalled()) {
    writeCookie(CONSENT, encodeURIComponent(JSON.stringify(chosenConsent)), THIRTEEN_MONTHS, domain);
  }
  if (chosenOptOut !== undefined) writeCookie(OPT_OUT, "1", chosenOptOut ? THIRTEEN_MONTHS : 0, domain);
}

/** The visitor's id; undefined where the browser keeps no cookie. Its 13 months are not prolonged by visits. */
export const visitorId = () => UUID.exec(readCookie(VISITOR))?.[0] || keepId(VISITOR, THIRTEEN_MONTHS, uuid7());

/** The session's id, which lives for the site's session time after its last hit. */
export const sessionId = () =>
  keepId(SESSION, 60 * settings.session_minutes, UUID.exec(readCookie(SESSION))?.[0] || uuid7());

const keepId = (name, seconds, id) => writeCookie(name, id, seconds, settings?.cookie_domain);

export function removeIds() {
  keepId(VISITOR, 0, "");
  keepId(SESSION, 0, "");
}
