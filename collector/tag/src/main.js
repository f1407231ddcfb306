// The tag: installs itself, asks the collector for the site's settings, follows the page, and takes the page's calls.
//
//   page, links, forms, calls -> hits (drafts until the settings are known) -> transport -> POST /v1/hits

import { call } from "./calls.js";
import { finishDrafts, wentEarly } from "./hits.js";
import { collector, site } from "./install.js";
import { listen } from "./listeners.js";
import { followPage, reopenPage } from "./page.js";
import { STRICT } from "./permission.js";
import { on, safely } from "./safely.js";
import { forgetVisitor, retryIn } from "./transport.js";
import { permitted, setSettings } from "./visitor.js";

function learnSettings() {
  fetch(collector + "/v1/sites/" + encodeURIComponent(site), { credentials: "omit" })
    .then((answer) => answer.ok && answer.json())
    .catch(() => {})
    .then(
      safely((told) => {
        setSettings({ ...STRICT, ...told });
        if (permitted().ids) {
          retryIn(0);
          if (wentEarly) reopenPage();
        }
        // Not being able to ask is no withdrawal: what earlier pages kept then stays.
        else if (told) forgetVisitor();
        finishDrafts();
      }),
    );
}

safely(() => {
  const stub = window.hitmeter;
  if (!site || stub?.loaded) return;
  (window.hitmeter = (...given) => call(given)).loaded = true;
  const start = () => {
    learnSettings();
    listen();
    followPage();
    // The page view still waits for the settings, so a choice among these calls covers it.
    stub?.q?.forEach(call);
  };
  // A page that the browser prepares in advance has not been seen by anybody.
  if (document.prerendering) on(document, "prerenderingchange", start);
  else start();
})();
