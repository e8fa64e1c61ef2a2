import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Instance } from "./instance.ts";
import { runningContainers } from "./leftovers.ts";
import { RUNTIMES } from "./runtimes.ts";

const README = readFileSync(resolve(import.meta.dirname, "../../README.md"), "utf8");
/** The README's walk-through, word for word; only the port is another. */
const SCRIPT = [...README.matchAll(/```bash\n(.*?)```/gs)].map((match) => match[1]).join("\n");

describe.each(RUNTIMES)("the README's walk-through on the %s runtime", (runtime) => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
  });
  afterAll(() => instance?.remove());

  it("runs word for word", async () => {
    const script = SCRIPT.replaceAll("localhost:8787", `localhost:${instance.port}`);
    const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], { timeout: 60_000 });
    expect(stdout).toMatch(/^sb-[a-z0-9]{22}$/m);
    expect(stdout).toContain('"stdout":"hello from Linux\\n"');
    expect(stdout).toContain('"returncode":3');
    expect(stdout).toContain("use IO::Socket::INET;");
    expect(stdout).toContain('"path":"/srv/copy/server.pl","type":"file"');
    expect(stdout).toMatch(/server\.pl$/m);
    expect(stdout).toMatch(/^event: stdout\ndata: .*\n\nid: 4\.4\nevent: stderr\n/m);
    expect(stdout).toContain('{"offset":6,"closed":false}{"offset":11,"closed":true}WORLD{"process_id"');
    expect(stdout).toMatch(/WORLD\{"process_id".*"stdout_bytes":11.*\}\}$/m);
    expect(stdout).toContain("hello from port 8000");
    expect(stdout).toContain('"finish_reason":"terminated"');
    await expect.poll(() => runningContainers(instance), { timeout: 15_000 }).toEqual([]);
  });

  it("shows the docs without a key", async () => {
    const docs = await fetch(`${instance.url}/docs`);
    expect(docs.headers.get("content-type")).toContain("text/html");
    expect(await docs.text()).not.toMatch(/(src|href)="https?:/);
    expect(await (await fetch(`${instance.url}/openapi.json`)).json()).toMatchObject({ openapi: "3.1.0" });
  });
});
