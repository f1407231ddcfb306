import js from "@eslint/js";

const names = (list, value) => Object.fromEntries(list.split(" ").map((name) => [name, value]));

const shared = "URL Response fetch setTimeout clearTimeout console performance crypto navigator";
const browser = "window document location history screen localStorage addEventListener TAG_VERSION";
const node = "process Buffer setImmediate";

export default [
  { ignores: ["dist/", "node_modules/"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: names(shared, "readonly") },
    rules: { "prefer-const": "error", eqeqeq: "error", "no-var": "error", "no-shadow": "error" },
  },
  { files: ["src/**"], languageOptions: { globals: names(browser, "readonly") } },
  { files: ["*.mjs", "test/**"], languageOptions: { globals: names(browser + " " + node, "readonly") } },
];
