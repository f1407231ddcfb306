// The page view in progress: when it begins, how long it has been visible, when it ends.

import { pageAddress } from "./addresses.js";
import { finishDrafts, record, setPage } from "./hits.js";
import { uuid7 } from "./ids.js";
import { heartbeat, manual } from "./install.js";
import { later, on, safely } from "./safely.js";
import { GATHER, setLeaving } from "./transport.js";

let id; // of the page view in progress
let pageHit;
let visible = 0; // milliseconds, without those since the last look at the clock
let told = 0; // milliseconds, in the last heartbeat
let since = 0; // when the clock was last looked at; 0 while the page is hidden
let timer;
let url = ""; // of the last page view
let opened; // what it was opened with

/** Begins a page view, ending the one before, which is where the visitor came from. */
export function openPage(properties, referrer = url || document.referrer) {
  closePage();
  opened = [properties, referrer];
  id = uuid7();
  visible = told = 0;
  url = location.href;
  setPage({ page_view: id, url, referrer });
  pageHit = record("page", { hit: id, properties });
  // Just before the hit goes out.
  later(takeTitle, GATHER / 2);
  watch();
}

// An application sets the title after it changed the address.
function takeTitle() {
  if (pageHit) pageHit.title = document.title;
}

/** Ends the page view without a word. */
export function abandonPage() {
  id = undefined;
}

/** Begins the last page view once more, so that no later hit points to what there was of it. */
export function reopenPage() {
  abandonPage();
  if (opened) openPage(...opened);
}

const closePage = () => tellDuration({ leave: "1" });

function watch() {
  clearTimeout(timer);
  if (!id || document.hidden) return;
  since ||= performance.now();
  timer = later(beat, told + heartbeat - visible);
}

function beat() {
  tellDuration();
  watch();
}

function tellDuration(properties) {
  // A computer that slept through the timer was not being looked at.
  if (since) visible += Math.min(performance.now() - since, 2 * heartbeat);
  since = 0;
  const duration = Math.round(visible);
  if (!id || duration <= told) return;
  told = duration;
  record("heartbeat", { duration, properties });
}

function navigated() {
  if (pageAddress(location.href) !== pageAddress(url)) openPage();
}

function left() {
  closePage();
  finishDrafts();
  setLeaving(true);
}

function returned() {
  setLeaving(false);
  watch();
}

/** Follows the page from now on. */
export function followPage() {
  on(document, "visibilitychange", () => (document.hidden ? left() : returned()));
  on(window, "pagehide", left);
  on(window, "pageshow", (event) => {
    if (!event.persisted) return;
    // The browser shows a kept page again: a new view of it.
    returned();
    if (!manual) openPage(undefined, document.referrer);
  });
  if (manual) return;
  for (const name of ["pushState", "replaceState"]) {
    const original = history[name];
    history[name] = function (...given) {
      safely(takeTitle)();
      const result = original.apply(this, given);
      safely(navigated)();
      return result;
    };
  }
  on(window, "popstate", navigated);
  openPage();
}
