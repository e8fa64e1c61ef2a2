import { mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { Deadlines } from "../../src/host/deadlines.ts";
import { ChildContainer, ChildRuntime } from "./child-runtime.ts";
import { SignedHost, until } from "./signed-host.ts";

const start = () => ({ sandboxId: newId("sandbox"), generation: 2 });
const folder = () => `${mkdtempSync("/tmp/sandbar-deadlines-")}/deadlines`;

test("a moved deadline is kept, the newest of them, for its own start only", () => {
  const at = folder();
  const one = start();
  const deadlines = new Deadlines(at);
  expect(deadlines.movedTo(one)).toBeUndefined();
  expect(deadlines.move(one, 3, 1000)).toBe(true);
  expect(deadlines.move(one, 2, 5)).toBe(false);
  expect(deadlines.move(one, 3, 2000)).toBe(true);
  expect(new Deadlines(at).movedTo(one)).toBe(2000);
  expect(deadlines.movedTo({ ...one, generation: 3 })).toBeUndefined();
  deadlines.forget(one);
  expect(deadlines.movedTo(one)).toBeUndefined();
});

test("what is left of sandboxes that are no more, or half written, is swept", () => {
  const at = folder();
  const [one, other] = [start(), start()];
  const deadlines = new Deadlines(at);
  for (const each of [one, other]) deadlines.move(each, 1, 1000);
  writeFileSync(`${at}/${other.sandboxId}.2.new`, "{");
  deadlines.sweep([one]);
  expect(readdirSync(at)).toEqual([`${one.sandboxId}.2`]);
  writeFileSync(`${at}/${one.sandboxId}.2`, "{");
  expect(deadlines.movedTo(one)).toBeUndefined();
});

test("the next daemon keeps a deadline that was moved, put off or brought forward", async () => {
  const dataDir = mkdtempSync("/tmp/sandbar-host-");
  const left = (lifetime_ms: number) => new ChildContainer({ ...identity(), lifetime_ms });
  const identity = () => ({ sandbox_id: newId("sandbox"), generation: 2 });
  const [later, sooner] = [left(500), left(600_000)];
  const runtime = new ChildRuntime();
  runtime.left = [later, sooner];
  const first = await SignedHost.start(runtime, { dataDir });
  const move = (host: SignedHost, { sandboxId }: ChildContainer, body: object) =>
    host.send("PUT", `/v1/sandboxes/${sandboxId}/deadline`, { generation: 2, revision: 1, ...body });
  expect((await move(first, later, { remaining_ms: 600_000 })).status).toBe(204);
  expect((await move(first, sooner, { remaining_ms: 1500 })).status).toBe(204);
  expect((await move(first, later, { generation: 1, remaining_ms: 0 })).json["code"]).toBe("sandbox_ended");
  expect((await move(first, later, { remaining_ms: -1 })).status).toBe(400);
  await first.daemon.close({ stopContainers: false });
  const second = await SignedHost.start(runtime, { dataDir });
  const status = async ({ sandboxId }: ChildContainer) => (await second.call("GET", `/v1/sandboxes/${sandboxId}`)).json;
  await until(async () => (await status(sooner))["kind"] === "exited");
  expect(await status(sooner)).toMatchObject({ exit: { deadline: true } });
  expect(await status(later)).toMatchObject({ kind: "running" });
  await second.daemon.close({ stopContainers: true });
  expect(readdirSync(`${dataDir}/deadlines`)).toEqual([]);
});
