import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "./browser.mjs";

const ada = { email: "ada@engines.example" };

// Longer than hits are gathered, and than a heartbeat takes.
const MOMENT = 1000;
const HEARTBEAT = 15000;
// Longer than the collector is left alone after one failure.
const RETRY = 2000;

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

const ENDS = {
  "consent is refused": (tab) => tab.hitmeter("consent", { measurement: false }),
  "the visitor opts out": (tab) => tab.hitmeter("optOut"),
};

for (const [end, withdraw] of Object.entries(ENDS)) {
  test(`nothing personal that could not be sent is sent after ${end}`, async () => {
    const browser = new Browser({ cookieless: true });
    const tab = await browser.open();
    browser.collectorFails = true;
    tab.hitmeter("identify", ada);
    await browser.wait(MOMENT / 2);
    withdraw(tab);
    browser.collectorFails = false;
    await browser.wait(RETRY);
    tab.hitmeter("event", "later");
    await browser.wait(MOMENT);
    assert.equal(browser.ofKind("later").length, 1);
    assert.deepEqual(
      browser.taken.filter((hit) => hit.contact || hit.screen),
      [],
    );
  });
}

test("where there are no ids, a contact that could not be sent is sent again", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  browser.collectorFails = true;
  tab.hitmeter("identify", ada);
  await browser.wait(MOMENT / 2);
  browser.collectorFails = false;
  await browser.wait(RETRY);
  assert.deepEqual(
    browser.ofKind("identify").map((hit) => hit.contact),
    [ada],
  );
  assert.equal(browser.stored.size, 0);
});

// The collector's own cookies tell it of an opt-out there, which the page may not see.
test("where there are no ids, what is personal goes out with the collector's cookies", async () => {
  const browser = new Browser({ cookieless: true });
  const tab = await browser.open();
  tab.hitmeter("identify", ada);
  await browser.wait(MOMENT);
  assert.deepEqual(
    browser.taken.map((hit) => [hit.event, hit.credentials]),
    [
      ["page", "include"],
      ["identify", "include"],
    ],
  );
});

test("what is not goes out without them, and apart", async () => {
  const browser = new Browser({ consent: "required" });
  const tab = await browser.open();
  await browser.wait(MOMENT);
  tab.hitmeter("event", "before");
  tab.hitmeter("consent", { measurement: true });
  await browser.wait(MOMENT);
  assert.deepEqual(
    browser.taken.map((hit) => [hit.event, hit.credentials]),
    [
      ["page", "omit"],
      ["page", "include"],
      ["consent", "include"],
      ["before", "omit"],
    ],
  );
});
