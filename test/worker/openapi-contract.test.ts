import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import contractText from "../fixtures/modal-sandboxes.openapi.yaml?raw";
import { ORIGIN, send } from "./client.ts";

interface Schema {
  $ref?: string;
  type?: string | string[];
  nullable?: boolean;
  format?: string;
  enum?: string[];
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  required?: string[];
}
type Content = Record<string, { schema: Schema }>;
interface Operation {
  operationId: string;
  summary: string;
  tags: string[];
  parameters?: { name: string; in: string; required?: boolean; schema: Schema }[];
  requestBody?: { required?: boolean; content: Content };
  responses: Record<string, { content?: Content }>;
}
interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema>; securitySchemes: Record<string, { type: string; scheme: string }> };
}

const contract = parse(contractText) as Document;
const ours = (await (await send(new Request(`${ORIGIN}/openapi.json`))).json()) as Document;

const resolve = (document: Document, schema: Schema): Schema =>
  schema.$ref ? document.components.schemas[schema.$ref.split("/").pop()!]! : schema;

const typeOf = (schema: Schema) => [schema.type ?? "any", schema.nullable ? "null" : []].flat(2).toSorted().join("|");

/** All that the contract says of a schema, ours must say too; ours may have more fields. */
function expectSame(theirs: Schema | undefined, mine: Schema | undefined, where: string, isRequest: boolean): void {
  expect(mine, where).toBeDefined();
  const want = resolve(contract, theirs!);
  const have = resolve(ours, mine!);
  expect(typeOf(have), `${where}: type`).toBe(typeOf(want));
  if (want.format) expect(have.format, `${where}: format`).toBe(want.format);
  if (want.enum) expect(have.enum, `${where}: enum`).toEqual(want.enum);
  if (want.items) expectSame(want.items, have.items, `${where}[]`, isRequest);
  for (const [name, property] of Object.entries(want.properties ?? {})) {
    expectSame(property, have.properties?.[name], `${where}.${name}`, isRequest);
  }
  if (typeof want.additionalProperties === "object") {
    expectSame(want.additionalProperties, have.additionalProperties as Schema, `${where}.*`, isRequest);
  }
  // A request of the contract stays valid: nothing more is required.
  if (isRequest) expect(have.required ?? [], `${where}: required`).toEqual(want.required ?? []);
  else for (const name of want.required ?? []) expect(have.required, `${where}: required`).toContain(name);
}

function expectContent(
  theirs: Content | undefined,
  mine: Content | undefined,
  where: string,
  isRequest: boolean,
): void {
  expect(Object.keys(mine ?? {}), where).toEqual(Object.keys(theirs ?? {}));
  for (const [type, { schema }] of Object.entries(theirs ?? {}))
    expectSame(schema, mine?.[type]?.schema, where, isRequest);
}

describe("the contract", () => {
  it("is of the same OpenAPI version, with the same security", () => {
    expect(ours.openapi).toBe(contract.openapi);
    expect(ours.components.securitySchemes["ModalToken"]).toMatchObject(
      contract.components.securitySchemes["ModalToken"]!,
    );
  });

  const operations = Object.entries(contract.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );

  it.each(operations)("holds for $method $path", ({ path, method, operation }) => {
    const mine = ours.paths[path]?.[method];
    expect(mine).toBeDefined();
    expect(mine).toMatchObject({
      operationId: operation.operationId,
      summary: operation.summary,
      tags: operation.tags,
    });
    for (const parameter of operation.parameters ?? []) {
      const own = mine!.parameters?.find(({ name }) => name === parameter.name);
      expect(own, parameter.name).toMatchObject({ in: parameter.in });
      expect(own!.required ?? false, `${parameter.name}: required`).toBe(parameter.required ?? false);
      expectSame(parameter.schema, own!.schema, parameter.name, true);
    }
    const known = new Set(operation.parameters?.map(({ name }) => name));
    const added = mine!.parameters?.filter(({ name, required }) => required && !known.has(name)) ?? [];
    expect(added, "nothing more is required").toEqual([]);
    expect(mine!.requestBody?.required, "body: required").toBe(
      operation.requestBody?.required ?? (mine!.requestBody ? false : undefined),
    );
    if (operation.requestBody) expectContent(operation.requestBody.content, mine!.requestBody?.content, "body", true);
    for (const [status, response] of Object.entries(operation.responses)) {
      expect(mine!.responses, "responses").toHaveProperty(status);
      expectContent(response.content, mine!.responses[status]?.content, `response ${status}`, false);
    }
  });

  it.each(Object.keys(contract.components.schemas))("has the schema %s under its name", (name) => {
    expectSame(contract.components.schemas[name], ours.components.schemas[name], name, false);
  });
});

describe("our own document", () => {
  const all = Object.entries(ours.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => ({ path, method, one })),
  );

  it.each(all)("says of $method $path what it is called and how it fails", ({ one }) => {
    expect(one.operationId).toBeTruthy();
    expect(one.summary).toBeTruthy();
    expect(one.responses["default"]?.content).toHaveProperty("application/problem+json");
  });

  it("names every operation once", () => {
    const ids = all.map(({ one }) => one.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("refers to nothing that is not there", () => {
    const refs = [...JSON.stringify(ours).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(
      (match) => match[1]!,
    );
    expect(refs.length).toBeGreaterThan(0);
    for (const name of refs) expect(ours.components.schemas).toHaveProperty(name);
  });

  it("is shown by a page that loads nothing from elsewhere", async () => {
    const response = await send(new Request(`${ORIGIN}/docs`));
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch(/^text\/html/);
    expect(await response.text()).not.toMatch(/(?:src|href)="?https?:/);
  });
});
