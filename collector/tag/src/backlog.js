// Hits whose sending failed. They lie in localStorage only where ids are permitted, else in memory for this page.

import { safely } from "./safely.js";

const MOST_HITS = 50;
const MOST_CHARACTERS = 32768;
const OLDEST = 864e5;

/**
 * What of the hits is kept: each hit once, none older than a day, of the heartbeats of a page view only the last (its
 * duration includes the others), and at most 50 hits and 32 KiB of JSON, the newest.
 */
export function bounded(hits, now) {
  const latest = new Map();
  for (const hit of hits) {
    // Only heartbeats have a duration. The page view has the same id as its first hit: 1 tells them apart.
    const key = hit.duration ? hit.page_view + 1 : hit.hit;
    if (now - hit.time < OLDEST && !(latest.get(key)?.duration > hit.duration)) latest.set(key, hit);
  }
  const kept = [...latest.values()].slice(-MOST_HITS);
  while (JSON.stringify(kept).length > MOST_CHARACTERS) kept.shift();
  return kept;
}

/** Milliseconds to wait before the next attempt: doubling from 1 s to 5 min with jitter, at least what was asked (in seconds). */
export function backoff(attempt, retryAfter, random = Math.random()) {
  const wait = Math.min(300, 2 ** attempt) * (0.5 + random / 2);
  return 1000 * Math.max(wait, Math.min(+retryAfter || 0, 3600));
}

/** A backlog under a localStorage key; `permitted` tells what may be done now, as permission() does. */
export function createBacklog(key, permitted) {
  // What localStorage does not hold: it may not be used, is full, or is forbidden.
  let memory = [];
  // All that is personal comes with the screen. It may have been withdrawn while the hit was under way or waited.
  const allowed = (hits) => bounded(hits.filter((hit) => permitted().personal || !hit.screen), Date.now());
  const all = () => {
    let stored = [];
    try {
      if (permitted().ids) stored = [...JSON.parse(localStorage.getItem(key))];
    } catch {
      // Nothing kept, or nothing to be had.
    }
    return allowed([...stored, ...memory]);
  };
  const keep = (hits) => {
    memory = allowed(hits);
    try {
      if (!permitted().ids) return;
      localStorage.setItem(key, JSON.stringify(memory));
      memory = [];
    } catch {
      // Memory it is.
    }
  };
  return {
    all,
    add: (hits) => keep([...all(), ...hits]),
    remove: (hits) => keep(all().filter((kept) => !hits.some((hit) => hit.hit === kept.hit))),
    /** Drops what is not permitted any more, and all that lies in localStorage. */
    clear: safely(() => {
      memory = allowed(memory);
      localStorage.removeItem(key);
    }),
  };
}
