import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Attached } from "./attached.ts";
import { Instance, sleep } from "./instance.ts";
import { RUNTIMES } from "./runtimes.ts";

const SANDBOXES = 4;
const PROCESSES = 50;
const LINES = 60;

describe.each(RUNTIMES)("many at once on the %s runtime", (runtime) => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
  });
  afterAll(() => instance?.remove());

  it("two hundred live processes, each with an attached reader: no error, no missing byte", async () => {
    const sandboxes = await Promise.all(Array.from({ length: SANDBOXES }, () => instance.create({ timeout: 600 })));
    await Promise.all(sandboxes.map((sandboxId) => instance.until(sandboxId, ["ready"])));
    const script = `read go; i=0; while [ $i -lt ${LINES} ]; do echo "$0 line $i"; i=$((i+1)); sleep 0.05; done; exit 3`;
    const readers: { id: string; reader: Attached }[] = [];
    for (let index = 0; index < PROCESSES; index++) {
      const started = sandboxes.map(async (sandboxId) => {
        const { process_id: id } = await instance.call<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, {
          command: ["sh", "-c", script, `p${index}`],
          open_stdin: true,
        });
        return {
          id: `p${index}`,
          reader: await Attached.open(instance, `/sandboxes/${sandboxId}/processes/${id}/attach`),
        };
      });
      readers.push(...(await Promise.all(started)));
    }
    expect(readers.length).toBe(SANDBOXES * PROCESSES);
    for (const { reader } of readers) reader.type("go\n");
    await Promise.all(readers.map(({ reader }) => reader.end(60_000)));
    for (const { id, reader } of readers) {
      expect(reader.text).toBe(Array.from({ length: LINES }, (_, line) => `${id} line ${line}\n`).join(""));
      expect(reader.status).toMatchObject({ process: { returncode: 3, finish_reason: "exited" } });
      expect(reader.closed).toMatchObject({ code: 1000 });
    }
  });

  it("a terminal that was idle so long that its object fell asleep wakes on input", async () => {
    const sandboxId = await instance.create({ timeout: 600 });
    const { process_id: id } = await instance.call<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, {
      command: ["cat"],
      pty: {},
    });
    const terminal = await Attached.open(instance, `/sandboxes/${sandboxId}/processes/${id}/attach`);
    terminal.type("one\n");
    await terminal.sees("one\r\none\r\n");
    await sleep(13_000);
    terminal.type("two\n");
    await terminal.sees("two\r\ntwo\r\n", 5_000);
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    await terminal.end();
  });
});
