// A browser that is not: enough of one to run the built tag without a network, and with a clock that only the test moves.

import { readFileSync } from "node:fs";
import { webcrypto } from "node:crypto";
import vm from "node:vm";

import { SITE } from "./site.mjs";

const TAG = readFileSync(new URL("../dist/t.js", import.meta.url), "utf8");

/** A browser with a site's settings. Its tabs share the cookies and what is stored, and send to one collector. */
export class Browser {
  cookies = new Map();
  stored = new Map();
  /** What the collector took: the fields of each hit, and `credentials` of its request. */
  taken = [];
  collectorFails = false;
  keepsCookies = true;
  #now = Date.now();
  #timers = [];

  constructor(settings) {
    this.settings = { ...SITE, ...settings };
  }

  /** A tab with a page of the site, once it has the settings. */
  async open() {
    const tab = new Tab(this);
    await settled();
    return tab;
  }

  /** Lets so many milliseconds pass, in every tab. */
  async wait(milliseconds) {
    const until = this.#now + milliseconds;
    for (let next; (next = this.#due(until)); await settled()) {
      this.#now = next.time;
      next.work();
    }
    this.#now = until;
  }

  /** Hits that were taken, of one kind. */
  ofKind = (event) => this.taken.filter((hit) => hit.event === event);

  now = () => this.#now;

  setTimeout = (work, milliseconds = 0) => {
    const timer = { work, time: this.#now + milliseconds };
    this.#timers.push(timer);
    return timer;
  };

  clearTimeout = (timer) => {
    this.#timers = this.#timers.filter((each) => each !== timer);
  };

  fetch = async (address, { body, credentials }) => {
    const { pathname } = new URL(address);
    if (pathname.startsWith("/v1/sites/")) return { ok: true, json: async () => this.settings };
    if (pathname !== "/v1/hits") return { status: 200 };
    if (this.collectorFails) throw new TypeError("not reached");
    this.#take(body, credentials);
    return { status: 200 };
  };

  sendBeacon = (address, body) => {
    this.#take(body, "include");
    return true;
  };

  setCookie(text) {
    const [, name, value, seconds] = /^(\w+)=([^;]*);.*Max-Age=(\d+)/.exec(text);
    if (!this.keepsCookies) return;
    if (seconds === "0") this.cookies.delete(name);
    else this.cookies.set(name, value);
  }

  #take(body, credentials) {
    this.taken.push(...JSON.parse(body).map((hit) => ({ ...hit, credentials })));
  }

  #due(until) {
    const [next] = this.#timers.sort((one, other) => one.time - other.time);
    if (!next || next.time > until) return undefined;
    this.clearTimeout(next);
    return next;
  }
}

class Tab {
  #listeners = {};
  #document;
  #window;

  constructor(browser) {
    const addEventListener = (type, work) => (this.#listeners[type] ??= []).push(work);
    this.#document = {
      get cookie() {
        return [...browser.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
      },
      set cookie(text) {
        browser.setCookie(text);
      },
      currentScript: { dataset: { site: "demo" }, src: "https://collector.example.net/t.js" },
      referrer: "",
      title: "Pumps",
      hidden: false,
      addEventListener,
    };
    this.#window = {
      document: this.#document,
      location: { href: "https://www.pumps.example/", protocol: "https:" },
      history: { pushState() {}, replaceState() {} },
      screen: { width: 1280, height: 720 },
      navigator: { language: "en", sendBeacon: browser.sendBeacon },
      localStorage: {
        getItem: (key) => browser.stored.get(key) ?? null,
        setItem: (key, text) => browser.stored.set(key, text),
        removeItem: (key) => browser.stored.delete(key),
      },
      performance: { now: browser.now },
      Date: class extends Date {
        static now = browser.now;
      },
      crypto: webcrypto,
      URL,
      setTimeout: browser.setTimeout,
      clearTimeout: browser.clearTimeout,
      fetch: browser.fetch,
      addEventListener,
    };
    this.#window.window = this.#window;
    vm.runInNewContext(TAG, this.#window);
  }

  /** A call of the page. */
  hitmeter(...given) {
    this.#window.hitmeter(...given);
  }

  /** The person goes to another page of this tab, and the browser keeps this one. */
  leave() {
    this.#show(false);
    this.#tell("pagehide", { persisted: true });
  }

  /** They come back by the back button. */
  async comeBack() {
    this.#show(true);
    this.#tell("pageshow", { persisted: true });
    await settled();
  }

  #show(visible) {
    this.#document.hidden = !visible;
    this.#tell("visibilitychange");
  }

  #tell(type, event) {
    this.#listeners[type]?.forEach((work) => work(event));
  }
}

const settled = () => new Promise((done) => setImmediate(done));
