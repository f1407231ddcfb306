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

// An opt-in on this page removed the cookie: where there is one again, another tab has opted out since.
export const optedOut = () => readCookie(OPT_OUT) === "1" || chosenOptOut;

// This page's choice, or the kept one where another tab made that later; undefined when the visitor was never asked.
function givenConsent() {
  try {
    const kept = JSON.parse(decodeURIComponent(readCookie(CONSENT)));
    if (!(chosenConsent?.time > kept.time)) return kept;
  } catch {
    // None is kept.
  }
  return chosenConsent;
}

/** The consent in force; undefined when the visitor was never asked. An opt-out overrules a consent to being measured. */
export const consent = () => (optedOut() ? { ...givenConsent(), measurement: false } : givenConsent());

/** What may be done now. */
export const permitted = (rules = settings || STRICT) => permission(rules, signalled() || optedOut(), consent());

/** Takes over the site's settings and brings the cookies in line with them. */
export function setSettings(told) {
  settings = told;
  keepConsent();
  keepOptOut();
}

export function chooseConsent(choice, wording) {
  chosenConsent = mergeConsent(givenConsent(), choice, wording, Date.now());
  keepConsent();
}

export function chooseOptOut(out) {
  chosenOptOut = out;
  keepOptOut();
}

function keepConsent() {
  // Under a signal no cookie is kept but the one that the visitor asks for by opting out.
  if (chosenConsent && !signalled()) {
    keep(CONSENT, THIRTEEN_MONTHS, encodeURIComponent(JSON.stringify(chosenConsent)));
  }
}

function keepOptOut() {
  if (chosenOptOut !== undefined) keep(OPT_OUT, chosenOptOut ? THIRTEEN_MONTHS : 0, 1);
}

/** The visitor's id; undefined where the browser keeps no cookie. Its 13 months are not prolonged by visits. */
export const visitorId = () => UUID.exec(readCookie(VISITOR))?.[0] || keep(VISITOR, THIRTEEN_MONTHS, uuid7());

/** The session's id, which lives for the site's session time after its last hit. */
export const sessionId = () =>
  keep(SESSION, 60 * settings.session_minutes, UUID.exec(readCookie(SESSION))?.[0] || uuid7());

const keep = (name, seconds, value) => writeCookie(name, value, seconds, settings?.cookie_domain);

export function removeIds() {
  keep(VISITOR, 0, "");
  keep(SESSION, 0, "");
}
