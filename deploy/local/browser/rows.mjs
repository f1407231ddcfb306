// The rows of one scenario in ClickHouse. A scenario's browser carries a marker in its user agent, which every row has.

const DEADLINE = 15000;
const PAUSE = 100;

/** Rows of table hits whose user agent holds a marker, in the order of the browser's clock. */
export const rowsOf = (marker, clickhouse) =>
  ask("SELECT * FROM hits WHERE position(user_agent, {marker:String}) > 0 ORDER BY client_time, hit_id", { marker }, clickhouse);

/** What an analyst is told of a visitor's sessions at this moment, in their order. */
export const sessionsOf = (site, visitor, clickhouse) =>
  ask(
    "SELECT * FROM sessions_of_hits WHERE site = {site:String} AND visitor_id = {visitor:String} ORDER BY started_at",
    { site, visitor },
    { ...clickhouse, user: "analyst", password: "" },
  );

async function ask(question, parameters, { url, database, user, password }) {
  const query = question + " FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
  const address = new URL(url);
  address.searchParams.set("database", database);
  for (const name in parameters) address.searchParams.set("param_" + name, parameters[name]);
  const headers = user ? { "X-ClickHouse-User": user, "X-ClickHouse-Key": password || "" } : {};
  const answer = await fetch(address, { method: "POST", body: query, headers });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`ClickHouse at ${url}: ${answer.status} ${text.trim()}`);
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** Asks again until the condition holds for what is answered, or the deadline has passed; answers the last in both cases. */
export async function until(look, condition, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  for (;;) {
    const answer = await look();
    if (condition(answer) || Date.now() > end) return answer;
    await new Promise((wake) => setTimeout(wake, PAUSE));
  }
}
