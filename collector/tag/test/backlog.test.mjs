import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { backoff, bounded, createBacklog } from "../src/backlog.js";

const DAY = 24 * 3600 * 1000;
const hit = (id, more) => ({ hit: id, event: "page", time: Date.now(), ...more });
const ids = (hits) => hits.map((each) => each.hit);

// What may be done, as permission() answers it.
const recognised = () => ({ personal: true, ids: true });
const cookieless = () => ({ personal: true, ids: false });
const anonymous = () => ({ personal: false, ids: false });

// Of every hit that may be personal the tag tells the screen.
const personal = (id, more) => hit(id, { screen: "1280x720", ...more });

/** What the tag needs of localStorage, with a limit. */
class Storage {
  items = new Map();
  most = Infinity;
  getItem = (key) => this.items.get(key) ?? null;
  removeItem = (key) => this.items.delete(key);
  setItem(key, text) {
    if (text.length > this.most) throw new Error("full");
    this.items.set(key, text);
  }
}

beforeEach(() => {
  globalThis.localStorage = new Storage();
});

test("the newest 50 are kept, each once", () => {
  const hits = Array.from({ length: 60 }, (_, index) => hit(String(index)));
  assert.deepEqual(ids(bounded([...hits, hits[59]], Date.now())), ids(hits.slice(10)));
});

test("at most 32 KiB are kept", () => {
  const hits = Array.from({ length: 40 }, (_, index) => hit(String(index), { title: "x".repeat(1000) }));
  const kept = bounded(hits, Date.now());
  assert.ok(JSON.stringify(kept).length <= 32768);
  // One more would not have fitted.
  assert.ok(JSON.stringify(hits.slice(-kept.length - 1)).length > 32768);
  assert.equal(kept.at(-1).hit, "39");
  assert.deepEqual(bounded([hit("huge", { title: "x".repeat(40000) })], Date.now()), []);
});

test("a day is the longest", () => {
  assert.deepEqual(ids(bounded([hit("old", { time: 1000 }), hit("new", { time: 1001 })], 1000 + DAY)), ["new"]);
});

test("of the heartbeats of a page view only the longest is kept", () => {
  const beat = (id, page, duration) => hit(id, { event: "heartbeat", page_view: page, duration });
  const hits = [
    hit("p", { page_view: "p" }),
    beat("a", "p", 1000),
    beat("c", "p", 3000),
    beat("b", "p", 2000),
    beat("d", "q", 500),
  ];
  assert.deepEqual(ids(bounded(hits, Date.now())), ["p", "c", "d"]);
});

test("waits double with jitter from 1 s to 5 min, and heed the collector", () => {
  assert.equal(backoff(0, null, 0), 500);
  assert.equal(backoff(0, null, 1), 1000);
  assert.equal(backoff(3, null, 1), 8000);
  assert.equal(backoff(40, null, 1), 300000);
  assert.equal(backoff(0, "30", 1), 30000);
  assert.equal(backoff(0, "999999", 1), 3600000);
  assert.equal(backoff(0, "Wed, 21 Oct 2026 07:28:00 GMT", 1), 1000);
});

test("a backlog outlives the page where ids are allowed", () => {
  createBacklog("k", recognised).add([hit("a", { visitor: "v" }), hit("b")]);
  const next = createBacklog("k", recognised);
  assert.deepEqual(ids(next.all()), ["a", "b"]);
  next.remove([hit("a")]);
  assert.deepEqual(ids(createBacklog("k", recognised).all()), ["b"]);
});

test("elsewhere it stays in memory, with what is personal as far as that is permitted", () => {
  for (const [permitted, kept] of [
    [cookieless, ["a", "b"]],
    [anonymous, ["b"]],
  ]) {
    const backlog = createBacklog("k", permitted);
    backlog.add([personal("a", { contact: { name: "Ada" } }), hit("b")]);
    assert.deepEqual(ids(backlog.all()), kept);
    assert.equal(localStorage.items.size, 0);
  }
});

test("a full or forbidden storage loses nothing while the page lasts", () => {
  localStorage.most = 10;
  const full = createBacklog("k", recognised);
  full.add([hit("a")]);
  full.add([hit("b")]);
  assert.deepEqual(ids(full.all()), ["a", "b"]);
  delete globalThis.localStorage;
  const forbidden = createBacklog("k", recognised);
  forbidden.add([hit("c")]);
  assert.deepEqual(ids(forbidden.all()), ["c"]);
  forbidden.clear();
});

test("what something else left in the storage does no harm", () => {
  for (const text of ["{", "null", "7"]) {
    localStorage.items.set("k", text);
    const backlog = createBacklog("k", recognised);
    backlog.add([hit("a")]);
    assert.deepEqual(ids(backlog.all()), ["a"], text);
  }
});

test("clearing leaves nothing stored, and nothing that is not permitted any more", () => {
  let permitted = cookieless;
  const backlog = createBacklog("k", () => permitted());
  backlog.add([personal("in-memory"), hit("anonymous")]);
  localStorage.items.set("k", JSON.stringify([personal("stored", { visitor: "v" })]));
  permitted = anonymous;
  backlog.clear();
  assert.equal(localStorage.items.size, 0);
  permitted = recognised;
  assert.deepEqual(ids(backlog.all()), ["anonymous"]);
});
