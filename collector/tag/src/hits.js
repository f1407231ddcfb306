// From something that happened to hits: drafts wait until the site's settings are known, then take on what is allowed.

import { linkKind, searchTerm } from "./addresses.js";
import { uuid7 } from "./ids.js";
import { site } from "./install.js";
import { UNKNOWN } from "./permission.js";
import { whenIdle } from "./safely.js";
import { enqueue, isLeaving } from "./transport.js";
import { consent, permitted, sessionId, settings, visitorId } from "./visitor.js";

/** Whether hits went out before the site's settings were known, and so without an id. */
export let wentEarly;

let drafts = [];
let page = {};
let viewHasIds;

/** Sets the fields that tie a hit to the page view in progress. */
export function setPage(fields) {
  page = fields;
}

/** Notes that something happened on the page; `fields` are those of the collector's API. Answers the hit to be. */
export function record(event, fields) {
  const draft = {
    site,
    event,
    hit: uuid7(),
    url: location.href,
    referrer: document.referrer,
    title: document.title,
    time: Date.now(),
    tag: TAG_VERSION,
    ...page,
    ...fields,
  };
  drafts.push(draft);
  if (settings || isLeaving()) finishDrafts();
  return draft;
}

export function finishDrafts() {
  const waiting = drafts;
  drafts = [];
  const rules = settings || UNKNOWN;
  wentEarly ||= !settings && waiting.length;
  waiting.flatMap((draft) => expand(draft, rules)).forEach((hit) => finish(hit, rules));
}

/** What a draft turns out to be under the site's settings: a page view may also be a search, a link may be nothing. */
function expand(draft, rules) {
  if (draft.event === "link") {
    const event = linkKind(draft.target, draft.url, rules);
    return event ? [{ ...draft, event }] : [];
  }
  const search = draft.event === "page" && searchTerm(draft.url, rules.search_parameters);
  return search ? [draft, { ...draft, event: "search", hit: uuid7(), search, properties: undefined }] : [draft];
}

function finish(hit, rules) {
  const { send, personal, ids } = permitted(rules);
  // A hit with an id and a page view without must not be tied, nor the reverse. The choice may have been another tab's.
  if (hit.hit === hit.page_view) viewHasIds = ids;
  else if (viewHasIds !== ids) hit.page_view = hit.duration = undefined;
  if (!send) return;
  hit.consent = consent();
  if (personal) {
    hit.screen = `${screen.width}x${screen.height}`;
    hit.language = navigator.language;
    // Its first use takes milliseconds, which the page can spare once it is idle; the hit waits longer than that.
    whenIdle(() => {
      hit.timezone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    });
  } else {
    if (hit.event === "identify") return;
    hit.contact = undefined;
  }
  if (ids) {
    hit.visitor = visitorId();
    hit.session = sessionId();
  }
  enqueue(hit);
}
