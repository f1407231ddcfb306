"""Turns the fetched data packages into the files that the enricher and the tests read.

In: DATA/source/*, unpacked by fetch.py. Out:
  DATA/referers.json    {medium: {source: {"domains": [...], "parameters": [...]}}}, medium one of
                        search, social, email, paid, chatbot, referral, unknown
  DATA/user-agents.txt  one user agent a line, each once, most used first
"""
import json
import pathlib
import re

# What no published list carries yet: assistants that send visitors on to the pages they quote.
CHATBOTS = {
    "ChatGPT": ["chatgpt.com", "chat.openai.com"],
    "Claude": ["claude.ai"],
    "Copilot": ["copilot.microsoft.com"],
    "DeepSeek": ["chat.deepseek.com"],
    "Gemini": ["gemini.google.com", "bard.google.com"],
    "Grok": ["grok.com"],
    "Le Chat": ["chat.mistral.ai"],
    "Meta AI": ["meta.ai"],
    "Perplexity": ["perplexity.ai"],
}
# Search engines whose parameter the list with parameters, the older one, does not know.
SEARCH_PARAMETERS_BY_DEFAULT = ["q", "query", "search", "p", "text", "wd"]


def search_parameters(text):
    """{source: [parameter]} of the section `search` of Snowplow's list (YAML of one fixed shape)."""
    parameters, section, source, field = {}, None, None, None
    for line in text.splitlines():
        line = line.split("#")[0].rstrip()
        if re.fullmatch(r"\S.*:", line):
            section = line[:-1]
        elif re.fullmatch(r"  \S.*:", line):
            source = line.strip()[:-1].strip("'\"")
        elif re.fullmatch(r"    \S.*:", line):
            field = line.strip()[:-1]
        elif line.startswith("      - ") and section == "search" and field == "parameters":
            parameters.setdefault(source.lower(), []).append(line[8:].strip().strip("'\""))
    return parameters


def referrers(source):
    """The merged database: current domains of one list, search parameters of the other, and the chatbots."""
    parameters = search_parameters((source / "referrers-parameters.yml").read_text("utf-8"))
    merged = {"chatbot": {name: {"domains": domains, "parameters": []} for name, domains in CHATBOTS.items()}}
    for domain, entry in json.loads((source / "referrers-domains.json").read_text("utf-8")).items():
        medium, name = entry["medium"], entry["source"]
        default = SEARCH_PARAMETERS_BY_DEFAULT if medium == "search" else []
        found = parameters.get(name.lower(), default) if medium == "search" else []
        place = merged.setdefault(medium, {}).setdefault(name, {"domains": [], "parameters": list(found)})
        place["domains"].append(domain)
    return merged


def user_agents(source):
    """Every user agent of both lists once; the list of the most used ones comes first."""
    top = json.loads((source / "top-user-agents.json").read_text("utf-8"))
    weighted = json.loads((source / "user-agents.json").read_text("utf-8"))
    weighted.sort(key=lambda entry: -entry["weight"])
    return list(dict.fromkeys(top + [entry["userAgent"] for entry in weighted]))


def prepare(data):
    """Writes both files into `data`."""
    data = pathlib.Path(data)
    merged = referrers(data / "source")
    (data / "referers.json").write_text(json.dumps(merged, indent=1, ensure_ascii=False, sort_keys=True), "utf-8")
    (data / "user-agents.txt").write_text("\n".join(user_agents(data / "source")) + "\n", "utf-8")
