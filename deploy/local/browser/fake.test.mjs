// The scenarios against the fakes: holds the tag, the demo site and the scenarios together without the pipeline.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { startFake } from "./fake.mjs";

test("every scenario passes against the fakes", { timeout: 240000 }, async () => {
  const fake = await startFake();
  const visit = spawn(process.execPath, [fileURLToPath(new URL("visit.mjs", import.meta.url))], {
    env: { ...process.env, DEMO_URL: fake.demo, COLLECTOR_URL: fake.collector, CLICKHOUSE_URL: fake.clickhouse },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  visit.stdout.on("data", (chunk) => (output += chunk));
  const [code] = await once(visit, "exit");
  fake.stop();
  assert.equal(code, 0, output);
});
