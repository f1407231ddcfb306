/** What holds when the collector does not tell the site's settings: nothing that needs a permission. */
export const STRICT = {
  consent: "required",
  signals: "drop",
  session_minutes: 30,
  download_extensions: ["pdf", "zip"],
  internal_hosts: [],
  search_parameters: ["q"],
};

/** What holds when the page is left before the settings have come: hits go out without any id. */
export const UNKNOWN = { ...STRICT, cookieless: true };

/**
 * What may be done, from the site's settings, whether the visitor objects (a browser signal or an opt-out), and the
 * consent given, undefined where the visitor was never asked: `send` hits at all, send `personal` data, keep and send
 * `ids`. A refusal counts on every site, a missing answer only where consent is required.
 */
export function permission(settings, objects, consent) {
  const personal = !objects && (consent?.measurement ?? settings.consent === "not_required");
  return {
    send: !objects || settings.signals !== "drop",
    personal,
    ids: personal && !settings.cookieless,
  };
}

const PURPOSES = ["measurement", "personalisation", "advertising", "partner_sharing"];

/** A choice of purposes laid over an earlier one. A purpose that neither names stays open; what is no plain yes is a no. */
export function mergeConsent(earlier, choice, wording, now) {
  const consent = { ...earlier, wording: wording && String(wording).slice(0, 200), time: now };
  for (const purpose of PURPOSES) {
    const said = choice?.[purpose] ?? null;
    if (said !== null) consent[purpose] = said === true;
  }
  return consent;
}
