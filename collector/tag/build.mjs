// Builds dist/t.js from src. With --check it writes nothing: it fails when dist/t.js is not what src gives, or too big.

import { readFile, mkdir, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const MOST_BYTES = 4000;
const here = new URL(".", import.meta.url);
const output = new URL("dist/t.js", here);
const { version } = JSON.parse(await readFile(new URL("package.json", here), "utf8"));

const result = await build({
  entryPoints: [new URL("src/main.js", here).pathname],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  define: { TAG_VERSION: JSON.stringify(version) },
  write: false,
});
// A second pass, which puts functions where they are used once: a thirtieth less.
const compress = { passes: 3, toplevel: true, ecma: 2020, unsafe_arrows: true, keep_fargs: false };
const minified = await minify(result.outputFiles[0].text, { compress, mangle: { toplevel: true } });
const built = minified.code + "\n";
const size = gzipSync(built, { level: 9 }).length;

if (size >= MOST_BYTES) fail(`dist/t.js has ${size} bytes gzipped; it must stay under ${MOST_BYTES}.`);

if (process.argv.includes("--check")) {
  const kept = await readFile(output, "utf8").catch(() => "");
  if (kept !== built) fail("dist/t.js is not what src gives: run `npm run build` and commit it.");
} else {
  await mkdir(new URL("dist/", here), { recursive: true });
  await writeFile(output, built);
}
console.log(`dist/t.js: ${built.length} bytes, ${size} gzipped`);

function fail(reason) {
  console.error(reason);
  process.exit(1);
}
