/** What can be asked of the server, drawn from its OpenAPI document. */

import { element, refill } from "./element.js";

const DEEPEST = 4;

/** The schema that a reference leads to, or the schema itself. */
function resolved(schema, document_) {
  if (!schema?.$ref) return schema ?? {};
  return document_.components.schemas[schema.$ref.split("/").at(-1)];
}

/** A type in words: "list of text", "Item or nothing". */
function typeInWords(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map(typeInWords).join(" or ");
  if (schema.type === "array") return `list of ${typeInWords(schema.items ?? {})}`;
  const names = { string: "text", integer: "whole number", null: "nothing", boolean: "true or false" };
  return names[schema.type] ?? schema.type ?? "anything";
}

function limits(schema) {
  const bounds = [...(schema.anyOf ?? []), schema];
  const find = (name) => bounds.map((one) => one[name]).find((value) => value !== undefined);
  const [low, high] = [find("minimum"), find("maximum")];
  const words = [];
  if (low !== undefined || high !== undefined) words.push(`${low ?? "…"} to ${high ?? "…"}`);
  if (find("maxItems") !== undefined) words.push(`at most ${find("maxItems")}`);
  if (schema.default !== undefined) words.push(`default ${JSON.stringify(schema.default)}`);
  return words.join(", ");
}

/** Names of the messages in a schema, the outermost first. */
function messagesOf(schema, document_, found = [], depth = 0) {
  if (!schema || depth > DEEPEST) return found;
  const name = schema.$ref?.split("/").at(-1);
  if (name && found.includes(name)) return found;
  if (name) found.push(name);
  const inner = resolved(schema, document_);
  for (const part of [...(inner.anyOf ?? []), ...(inner.oneOf ?? []), ...(inner.items ? [inner.items] : []),
    ...Object.values(inner.properties ?? {})]) {
    messagesOf(part, document_, found, depth + 1);
  }
  return found;
}

function message(name, document_) {
  const schema = document_.components.schemas[name];
  if (!schema?.properties) return null;
  const rows = Object.entries(schema.properties).map(([field, one]) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, field),
      schema.required?.includes(field) ? element("span", { class: "soft" }, " required") : null),
    element("td", {}, typeInWords(one)), element("td", {}, limits(one)),
    element("td", {}, one.description ?? "")));
  return element("div", { class: "message" },
    element("h4", {}, name),
    schema.description ? element("p", { class: "soft" }, schema.description) : null,
    fields(`Fields of ${name}`, rows));
}

function fields(label, rows) {
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    element("table", {}, element("thead", {}, element("tr", {}, ["Field", "Type", "Limits", "Meaning"].map((text) =>
      element("th", { scope: "col" }, text)))), element("tbody", {}, rows)));
}

function parameters(operation) {
  if (!operation.parameters?.length) return null;
  return fields("Parameters", operation.parameters.map((one) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, one.name), element("span", { class: "soft" }, ` in the ${one.in}`)),
    element("td", {}, typeInWords(one.schema)), element("td", {}, limits(one.schema)),
    element("td", {}, one.description ?? one.schema.description ?? ""))));
}

function examples(path, body, document_) {
  if (!body) return [];
  const media = body.content["application/json"];
  const named = Object.values(media.examples ?? {}).map((one) => one.value);
  const [own] = resolved(media.schema, document_).examples ?? [];
  const all = named.length > 0 ? named : own ? [own] : [];
  return all.map((one) => element("pre", { tabindex: 0, role: "region", "aria-label": `Example of ${path}` },
    `curl ${location.origin}${path} -H "Content-Type: application/json" -d '${JSON.stringify(one, null, 2).replaceAll("'", "'\\''")}'`));
}

function operationPlace(path, method, operation, document_) {
  const body = operation.requestBody;
  const asked = body ? messagesOf(body.content["application/json"].schema, document_) : [];
  const reply = operation.responses["200"]?.content?.["application/json"]?.schema;
  const answered = messagesOf(reply, document_).filter((name) => !asked.includes(name));
  return element("details", { class: "path" },
    element("summary", {}, element("b", {}, method.toUpperCase()), " ", element("code", {}, path), " ",
      element("span", { class: "soft" }, operation.description ?? operation.summary)),
    ...examples(path, body, document_), parameters(operation),
    ...asked.map((name) => message(name, document_)),
    answered.length > 0 ? element("p", { class: "answer" }, "The answer:") : null,
    ...answered.map((name) => message(name, document_)));
}

async function start() {
  const document_ = await (await fetch("openapi.json")).json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationPlace(path, method, operation, document_));
    }
  }
  refill(document.getElementById("paths"), [...groups].map(([tag, places]) =>
    element("section", {}, element("h2", {}, tag.charAt(0).toUpperCase() + tag.slice(1)), places)));
}

start();
