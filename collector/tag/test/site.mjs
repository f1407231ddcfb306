/** The settings of a site that asks for nothing in particular, as the collector tells them. */
export const SITE = {
  consent: "not_required",
  signals: "anonymous",
  cookieless: false,
  session_minutes: 30,
  cookie_domain: null,
  download_extensions: ["pdf"],
  internal_hosts: [],
  search_parameters: ["q"],
};
