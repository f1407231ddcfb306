// From a finished hit to the collector: gathered for a moment, sent in batches, kept and retried when that fails.

import { backoff, createBacklog } from "./backlog.js";
import { collector, site } from "./install.js";
import { later, safely } from "./safely.js";
import { optedOut, permitted, removeIds } from "./visitor.js";

/** Milliseconds without a new hit after which those gathered go out in one request. */
export const GATHER = 200;
const BATCH = 25;

const address = collector + "/v1/hits";
const backlog = createBacklog("hitmeter_unsent_" + site, permitted);

let pending = [];
let gathering;
let retrying;
let inFlight = 0;
let failures = 0;
let leaving = false;

export const isLeaving = () => leaving;

export function enqueue(hit) {
  pending.push(hit);
  clearTimeout(gathering);
  if (leaving || pending.length === BATCH) flush();
  else gathering = later(flush, GATHER);
}

/** While the page is being left, everything goes out at once, in ways that outlive the page. */
export function setLeaving(now) {
  leaving = now;
  if (leaving) flush();
}

/** Removes the ids, and drops what is personal and has not been sent. */
export function forgetVisitor() {
  removeIds();
  pending = pending.filter((hit) => !hit.screen);
  backlog.clear();
}

function flush() {
  const hits = pending;
  pending = [];
  // When the collector can't be reached or asked for a pause, these wait for the next attempt too.
  if (failures) backlog.add(hits);
  else send(hits);
}

function send(hits) {
  // Apart, so that no request ties an anonymous hit to an id or a contact.
  for (const personal of [true, false]) {
    const group = hits.filter((hit) => !hit.screen !== personal);
    if (group.length) post(group);
  }
}

function post(hits) {
  const sent = Date.now();
  // A string goes out as text/plain, which needs no preflight.
  const body = JSON.stringify(hits.map((hit) => ({ ...hit, sent })));
  // The collector's cookies hold ids, and the opt-out, which it must see before it keeps anything personal.
  const withCookies = hits[0].screen || optedOut();
  if (leaving && withCookies && navigator.sendBeacon?.(address, body)) return;
  inFlight++;
  fetch(address, {
    method: "POST",
    body,
    // Browsers refuse more than 64 KiB in requests that outlive the page.
    keepalive: body.length < 30000,
    credentials: withCookies ? "include" : "omit",
  })
    // Not reached: no status.
    .catch(() => ({}))
    .then(safely((answer) => answered(hits, answer)));
}

function answered(hits, { status, headers }) {
  inFlight--;
  if (!status || status === 429 || status >= 500) {
    backlog.add(hits);
    retryIn(backoff(failures++, headers?.get("Retry-After")));
    return;
  }
  // Taken, or refused for good.
  failures = 0;
  if (!backlog.all().length) return;
  backlog.remove(hits);
  retryIn(0);
}

/** Sends the backlog, this page's and that of earlier ones, after a time. */
export function retryIn(milliseconds) {
  retrying ||= later(() => {
    retrying = 0;
    const hits = backlog.all();
    // What is under way may be in the backlog still.
    if (inFlight) retryIn(1000);
    else if (hits.length) send(hits);
    else failures = 0;
  }, milliseconds);
}
