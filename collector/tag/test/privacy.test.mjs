import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "./browser.mjs";

const ada = { email: "ada@engines.example" };

// Longer than hits are gathered, and than a heartbeat takes.
const MOMENT = 1000;
const HEARTBEAT = 15000;

test("the tag runs here: a page view and a heartbeat under one id", async () => {
  const browser = new Browser();
  await browser.open();
  await browser.wait(HEARTBEAT + MOMENT);
  assert.deepEqual(
    browser.taken.map((hit) => hit.event),
    ["page", "heartbeat"],
  );
  assert.equal(new Set(browser.taken.map((hit) => hit.visitor)).size, 1);
  assert.deepEqual([...browser.cookies.keys()], ["hitmeter_visitor", "hitmeter_session"]);
});

test("where there are no ids, a consent does not take away what was submitted just before", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  tab.hitmeter("identify", ada);
  tab.hitmeter("consent", { measurement: true });
  await browser.wait(MOMENT);
  assert.deepEqual(
    browser.ofKind("identify").map((hit) => hit.contact),
    [ada],
  );
});

test("a refusal does", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  tab.hitmeter("identify", ada);
  tab.hitmeter("consent", { measurement: false });
  await browser.wait(MOMENT);
  assert.deepEqual(browser.ofKind("identify"), []);
  assert.equal(browser.ofKind("consent").length, 1);
});
