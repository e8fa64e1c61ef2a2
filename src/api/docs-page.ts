import type { Context } from "hono";
import type { ApiEnv } from "./env.ts";

/** `GET /docs`: the OpenAPI document as a page to read. It needs nothing but itself and /openapi.json. */
export function docsPage(c: Context<ApiEnv>): Response {
  c.header(
    "content-security-policy",
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'",
  );
  return c.html(PAGE);
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c1917; --soft: #78716c; --line: #e7e5e4; --back: #fafaf9; --card: #fff; --code: #f5f5f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f5f5f4; --soft: #a8a29e; --line: #292524; --back: #0c0a09; --card: #1c1917; --code: #292524; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); display: flex; }
nav { position: sticky; top: 0; width: 19rem; height: 100vh; overflow: auto; padding: 1.5rem; border-right: 1px solid var(--line); flex: none; }
nav a { display: flex; gap: .5rem; padding: .15rem 0; color: inherit; text-decoration: none; font-size: .87rem; }
nav a:hover { text-decoration: underline; }
nav h3 { margin: 1.2rem 0 .3rem; font-size: .72rem; letter-spacing: .07em; text-transform: uppercase; color: var(--soft); }
main { padding: 2rem 3rem; max-width: 62rem; min-width: 0; flex: 1; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.2rem 1.4rem; margin: 1rem 0; }
h1 { margin-top: 0; } h2 { margin: 2.4rem 0 .5rem; } h4 { margin: 1.2rem 0 .3rem; font-size: .85rem; color: var(--soft); }
section > h3 { margin: 0; font-size: 1.05rem; }
code, .path { font: .87rem ui-monospace, monospace; }
code { background: var(--code); border-radius: .25rem; padding: .1rem .3rem; overflow-wrap: anywhere; }
.method { font: 700 .68rem ui-monospace, monospace; width: 3.1rem; flex: none; padding-top: .25rem; }
.GET { color: #0284c7; } .POST { color: #16a34a; } .PUT { color: #d97706; } .DELETE { color: #dc2626; }
.endpoint { display: flex; gap: .6rem; align-items: baseline; margin: .4rem 0; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid var(--line); padding: .4rem .8rem .4rem 0; vertical-align: top; font-size: .9rem; }
td:first-child { width: 13rem; } td:nth-child(2) { width: 15rem; color: var(--soft); }
.required { color: #dc2626; font-size: .75rem; } .soft { color: var(--soft); }
@media (max-width: 50rem) { nav { display: none; } main { padding: 1rem; } }
`;

/** Runs in the browser. Text is set as text, never as markup. */
const SCRIPT = `
const make = (tag, props, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child !== undefined && child !== ""));
  return node;
};
const nameOf = (ref) => ref.split("/").pop();
const link = (ref) => make("a", { href: "#schema-" + nameOf(ref) }, nameOf(ref));
const typeOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return link(schema.$ref);
  if (schema.enum) return make("span", {}, schema.enum.join(" | "));
  if (schema.anyOf || schema.oneOf) {
    const node = make("span", {});
    (schema.anyOf || schema.oneOf).forEach((one, at) => node.append(at ? " | " : "", typeOf(one)));
    return node;
  }
  if (schema.type === "array") return make("span", {}, "array of ", typeOf(schema.items));
  if (schema.type === "object" && schema.additionalProperties && !schema.properties)
    return make("span", {}, "map of ", typeOf(schema.additionalProperties));
  if (schema.type === "object" && schema.properties) {
    const node = make("span", {}, "{ ");
    Object.entries(schema.properties).forEach(([name, one], at) => node.append(at ? ", " : "", name + ": ", typeOf(one)));
    node.append(" }");
    return node;
  }
  const limits = [];
  if (schema.format) limits.push(schema.format);
  if (schema.minimum !== undefined) limits.push("≥ " + schema.minimum);
  if (schema.maximum !== undefined) limits.push("≤ " + schema.maximum);
  if (schema.default !== undefined) limits.push("default " + schema.default);
  return make("span", {}, [].concat(schema.type || "any").join(" | ") + (limits.length ? " (" + limits.join(", ") + ")" : ""));
};
const row = (name, required, type, text) =>
  make("tr", {},
    make("td", {}, make("code", {}, name), " ", required ? make("span", { className: "required" }, "required") : ""),
    make("td", {}, type),
    make("td", {}, text || ""));
const fields = (schema) =>
  make("table", {}, ...Object.entries(schema.properties || {}).map(([name, one]) =>
    row(name, (schema.required || []).includes(name), typeOf(one), one.description)));
const body = (content) => {
  const [type, media] = Object.entries(content)[0];
  return make("p", {}, make("code", {}, type), " ", typeOf(media.schema));
};
const operation = (method, path, op, base) => {
  const node = make("section", { id: op.operationId },
    make("h3", {}, op.summary || op.operationId),
    make("div", { className: "endpoint" }, make("span", { className: "method " + method }, method), make("span", { className: "path" }, base + path)),
    op.description ? make("p", {}, op.description) : "");
  const scope = op.security?.[0]?.ModalToken?.[0];
  if (scope) node.append(make("p", { className: "soft" }, "Needs a key with the scope ", make("code", {}, scope), "."));
  if (op.parameters?.length)
    node.append(make("h4", {}, "Parameters"), make("table", {}, ...op.parameters.map((one) =>
      row(one.name, one.required, make("span", {}, one.in + ", ", typeOf(one.schema)), one.schema?.description || one.description))));
  if (op.requestBody) node.append(make("h4", {}, op.requestBody.required ? "Body" : "Body (optional)"), body(op.requestBody.content));
  node.append(make("h4", {}, "Answers"));
  for (const [status, one] of Object.entries(op.responses)) {
    const line = make("div", {}, make("code", {}, status), " " + one.description);
    if (one.content) line.append(body(one.content));
    node.append(line);
  }
  return node;
};
const main = document.querySelector("main");
const nav = document.querySelector("nav");
fetch("/openapi.json").then((response) => response.json()).then((doc) => {
  const base = doc.servers?.[0]?.url || "";
  main.replaceChildren(make("h1", {}, doc.info.title + " API"), make("p", {}, doc.info.description || ""),
    make("p", {}, "Send your key as ", make("code", {}, "Authorization: Bearer <key>"), ". Errors are problem documents: ", link("#/Problem"), "."));
  for (const tag of doc.tags) {
    main.append(make("h2", {}, tag.name), make("p", { className: "soft" }, tag.description || ""));
    nav.append(make("h3", {}, tag.name));
    for (const [path, methods] of Object.entries(doc.paths)) for (const [method, op] of Object.entries(methods)) {
      if (op.tags?.[0] !== tag.name) continue;
      main.append(operation(method.toUpperCase(), path, op, base));
      nav.append(make("a", { href: "#" + op.operationId }, make("span", { className: "method " + method.toUpperCase() }, method.toUpperCase()), op.summary));
    }
  }
  main.append(make("h2", {}, "Schemas"));
  nav.append(make("h3", {}, "Schemas"));
  for (const [name, schema] of Object.entries(doc.components.schemas)) {
    main.append(make("section", { id: "schema-" + name }, make("h3", {}, name), fields(schema)));
    nav.append(make("a", { href: "#schema-" + name }, name));
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}).catch((error) => main.replaceChildren("The document could not be loaded: " + error));
`;

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbar API</title>
<style>${STYLE}</style>
</head>
<body>
<nav></nav>
<main>Loading…</main>
<script>${SCRIPT}</script>
</body>
</html>
`;
