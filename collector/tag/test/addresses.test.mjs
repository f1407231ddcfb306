import assert from "node:assert/strict";
import { test } from "node:test";
import { linkKind, pageAddress, searchTerm } from "../src/addresses.js";

const site = { download_extensions: ["pdf", "zip"], internal_hosts: ["shop.pumps.example"] };
const page = "https://www.pumps.example/a/b.html?x=1";
const kind = (target) => linkKind(target, page, site);

test("links", () => {
  assert.equal(kind("https://www.pumps.example/files/Data.PDF?v=2"), "download");
  assert.equal(kind("https://cdn.elsewhere.example/data.zip#page=2"), "download");
  assert.equal(kind("https://example.org/pdf"), "outlink");
  assert.equal(kind("http://pumps.example/"), "outlink");
  assert.equal(kind("https://www.pumps.example/pdf"), undefined);
  assert.equal(kind("https://www.pumps.example:8443/"), undefined);
  assert.equal(kind("https://shop.pumps.example/cart"), undefined);
  assert.equal(kind("mailto:sales@pumps.example"), undefined);
  assert.equal(kind("javascript:void(0)"), undefined);
  assert.equal(kind("tel:+44"), undefined);
});

test("search terms", () => {
  const parameters = ["q", "search"];
  assert.equal(searchTerm("https://x.example/?q=slurry+pump", parameters), "slurry pump");
  assert.equal(searchTerm("https://x.example/?q=%20&search=caf%C3%A9", parameters), "café");
  assert.equal(searchTerm("https://x.example/?p=slurry", parameters), undefined);
  assert.equal(searchTerm("https://x.example/", parameters), undefined);
});

test("a place on the page is not another page, a route is", () => {
  assert.equal(pageAddress("https://x.example/a?b#c"), "https://x.example/a?b");
  assert.equal(pageAddress("https://x.example/a?b#"), "https://x.example/a?b");
  assert.equal(pageAddress("https://x.example/#/orders/1"), "https://x.example/#/orders/1");
  assert.equal(pageAddress("https://x.example/#!orders"), "https://x.example/#!orders");
});
