// First-party cookies of the page. The names and formats are shared with the collector.

export const VISITOR = "hitmeter_visitor";
export const SESSION = "hitmeter_session";
export const OPT_OUT = "hitmeter_opt_out";
export const CONSENT = "hitmeter_consent";

/** 13 months, in seconds. */
export const THIRTEEN_MONTHS = 395 * 86400;

export function readCookie(name) {
  return document.cookie.match(`(?:^|; )${name}=([^;]*)`)?.[1];
}

/**
 * Sets a cookie for so many seconds (0 removes it), on the site's domain where one is given, and answers what the
 * browser then holds: nothing, where it refuses cookies.
 */
export function writeCookie(name, value, seconds, domain) {
  const set = (text, age, suffix) => {
    document.cookie = `${name}=${text};Path=/;Max-Age=${age};SameSite=Lax${suffix}`;
  };
  const secure = location.protocol === "https:" ? ";Secure" : "";
  // One left by a page that did not know the domain yet would hide the one on the domain.
  if (domain) set("", 0, secure);
  set(value, seconds, domain ? secure + ";Domain=" + domain : secure);
  return readCookie(name);
}
