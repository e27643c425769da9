// Shows the OpenAPI description without a framework or external files.
"use strict";

const EXAMPLES = {
  "/v1/score": ["curl -F files=@a.jpg -F files=@b.png", "curl -H 'Content-Type: application/octet-stream' --data-binary @a.jpg"],
  "/v1/cull": ["curl -F files=@a.jpg -F files=@b.jpg"],
  "/v1/map": ["curl -F files=@a.jpg"],
};

const nameOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(nameOf).join(" or ");
  if (schema.type === "array") return `list of ${nameOf(schema.items)}`;
  return schema.type || "anything";
};

/** A schema's fields as a table, followed by those of nested schemas. */
function fields(schemas, name, seen = new Set()) {
  if (seen.has(name) || !schemas[name]) return [];
  seen.add(name);
  const rows = Object.entries(schemas[name].properties || {}).map(([field, schema]) => el(
    "tr", {}, el("td", {}, el("code", {}, field)), el("td", {}, nameOf(schema)), el("td", {}, schema.description || ""),
  ));
  const table = el(
    "table", {}, el("caption", { className: "unseen" }, name),
    el("thead", {}, el("tr", {}, ...["Field", "Type", "Meaning"].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...rows),
  );
  const inner = Object.values(schemas[name].properties || {})
    .map((schema) => (schema.items || schema).$ref)
    .filter(Boolean)
    .flatMap((ref) => fields(schemas, ref.split("/").pop(), seen));
  return [el("h3", {}, name), el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": `Fields of ${name}` }, table), ...inner];
}

async function read() {
  const description = await (await fetch("/openapi.json")).json();
  const schemas = description.components.schemas;
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const answer = Object.values(route.responses["200"].content || {})[0];
      const refused = Object.entries(route.responses).filter(([code]) => code >= "400");
      const examples = (EXAMPLES[path] || ["curl"]).map((command) => `${command} ${location.origin}${path}`);
      $("#routes").append(el(
        "section", { className: "route panel" },
        el("h2", {}, el("span", { className: "method" }, method.toUpperCase()), el("code", {}, path)),
        el("p", {}, route.description || route.summary),
        el("pre", { tabIndex: 0 }, el("code", {}, examples.join("\n"))),
        ...(refused.length ? [el("p", { className: "quiet" }, refused.map(([code, { description: text }]) => `${code} ${text}`).join(" "))] : []),
        ...(answer && answer.schema && answer.schema.$ref ? fields(schemas, nameOf(answer.schema)) : []),
      ));
    }
  }
}

read();
