// Hits whose sending failed. They lie in localStorage only where ids are allowed, else in memory for this page.

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

/** A backlog under a localStorage key; `mayStore` tells whether localStorage may be used now. */
export function createBacklog(key, mayStore) {
  // What localStorage does not hold: it may not be used, is full, or is forbidden.
  let memory = [];
  const all = () => {
    let stored = [];
    try {
      if (mayStore()) stored = [...JSON.parse(localStorage.getItem(key))];
    } catch {
      // Nothing kept, or nothing to be had.
    }
    return bounded([...stored, ...memory], Date.now());
  };
  const keep = (hits) => {
    memory = bounded(hits, Date.now());
    try {
      if (!mayStore()) return;
      localStorage.setItem(key, JSON.stringify(memory));
      memory = [];
    } catch {
      // Memory it is.
    }
  };
  return {
    all,
    /** Adds hits. Without permission for ids, hits that carry one are not kept: it was withdrawn meanwhile. */
    add: (hits) => keep([...all(), ...hits.filter((hit) => mayStore() || !hit.visitor)]),
    remove: (hits) => keep(all().filter((kept) => !hits.some((hit) => hit.hit === kept.hit))),
    /** Drops every hit that carries an id, and all that lies in localStorage. */
    clear: safely(() => {
      memory = memory.filter((hit) => !hit.visitor);
      localStorage.removeItem(key);
    }),
  };
}
