import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Instance } from "./instance.ts";
import { isRunning, signalAll, startersOf, workerdsOf } from "./leftovers.ts";

/** The ways in which `npm start` runs the Worker, and how many workerds that takes. */
const ALONE = {};
const WRANGLER = { SANDBAR_WRANGLER: "1" };
const WAYS = [
  { way: "in one workerd", environment: ALONE, workerds: 1, againMs: 10_000 },
  // What stands before the Worker may then hold every request, until the watchdog finds that.
  { way: "under `wrangler dev`", environment: WRANGLER, workerds: 2, againMs: 80_000 },
];
/** The watchdog's two looks of 10 s, and a start. */
const STANDS_STILL_MS = 80_000;

describe.each(WAYS)("the Worker $way", { timeout: 240_000 }, ({ environment, workerds, againMs }) => {
  let instance: Instance;
  let sandboxId: string;
  beforeAll(async () => {
    instance = await Instance.start("embedded", environment);
    sandboxId = await instance.create({ timeout: 900, tags: { run: "1" } });
    await instance.until(sandboxId, ["ready"]);
  });
  afterAll(() => instance?.remove());

  const FILE = "files?path=/srv/kept";
  const put = (text: string) => instance.fetch(`/sandboxes/${sandboxId}/${FILE}`, { method: "PUT", body: text });
  const get = async () => (await instance.fetch(`/sandboxes/${sandboxId}/${FILE}`)).text();

  it("runs a sandbox, a process in it, and takes and gives a file", async () => {
    expect(workerdsOf(instance)).toHaveLength(workerds);
    expect((await put("of the client\n")).status).toBe(204);
    expect(await instance.exec(sandboxId, ["cat", "/srv/kept"])).toMatchObject({ stdout: "of the client\n" });
    expect(await get()).toBe("of the client\n");
  });

  it("is there again, with what it has acknowledged, when any of its workerds was killed", async () => {
    for (let index = 0; index < workerds; index++) {
      const before = workerdsOf(instance);
      expect(before).toHaveLength(workerds);
      const created = await instance.create({ tags: { killed: String(index) } });
      signalAll([before[index]!], "SIGKILL");
      await instance.untilAnswers(againMs);
      expect(isRunning(before[index]!)).toBe(false);
      await instance.until(created, ["ready"]);
      expect(await instance.exec(sandboxId, ["cat", "/srv/kept"])).toMatchObject({ stdout: "of the client\n" });
      await instance.call("DELETE", `/sandboxes/${created}`);
    }
  });

  it("is started again when it stands still", async () => {
    const before = workerdsOf(instance);
    signalAll(before, "SIGSTOP");
    await instance.untilAnswers(STANDS_STILL_MS);
    expect(before.filter(isRunning)).toEqual([]);
    expect(await get()).toBe("of the client\n");
  });

  it("leaves no workerd when what started it is killed", async () => {
    const before = workerdsOf(instance);
    expect(before).toHaveLength(workerds);
    await instance.kill();
    await expect.poll(() => before.filter(isRunning), { timeout: 5_000 }).toEqual([]);
  });
});

describe("the Worker's workerd", { timeout: 240_000 }, () => {
  let instance: Instance;
  afterEach(() => instance?.remove());

  it("is started with all around it when another program has its port meanwhile", async () => {
    instance = await Instance.start("embedded");
    const starters = startersOf(instance);
    // What starts it again comes to that only when the port is taken.
    signalAll(starters, "SIGSTOP");
    signalAll(workerdsOf(instance), "SIGKILL");
    const other = createServer();
    await expect
      .poll(
        () =>
          new Promise((done) => {
            other.once("error", done);
            other.listen(instance.port, "127.0.0.1", () => done("listens"));
          }),
        { timeout: 5_000 },
      )
      .toBe("listens");
    signalAll(starters, "SIGCONT");
    await expect.poll(() => starters.filter(isRunning), { timeout: 20_000 }).toEqual([]);
    await new Promise((done) => other.close(done));
    await instance.untilAnswers(20_000);
    await instance.until(await instance.create(), ["ready"]);
  });

  it("listens on this machine alone, and leads to nothing without a key", async () => {
    instance = await Instance.start("embedded");
    const ports = workerdsOf(instance).flatMap(listeningOf);
    expect(ports).toContain(instance.port);
    const ask = async (port: number, path: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
      await answer.body?.cancel();
      return answer;
    };
    const operation = { "MF-Op": "GET", "MF-Op-Target": "ENV" };
    for (const port of ports) {
      expect((await ask(port, "/v1/sandboxes")).status).toBe(401);
      for (const page of ["explorer", "scheduled", "email", "r2/public/sandbar-snapshots/x", "r2/s3/sandbar-snapshots"])
        expect([page, (await ask(port, `/cdn-cgi/local/${page}`)).status]).toEqual([page, 404]);
      expect((await ask(port, "/cdn-cgi/local/platform-proxy", operation)).status).toBeOneOf([401, 404]);
    }
    // At the API's own port nobody but the Worker answers.
    for (const page of ["r2/public/sandbar-snapshots/x", "platform-proxy"]) {
      expect((await ask(instance.port, `/cdn-cgi/local/${page}`, operation)).headers.has("x-request-id")).toBe(true);
    }
  });

  it("finds what `wrangler dev` has written, and the other way round", async () => {
    instance = await Instance.start("embedded", WRANGLER);
    const files: string[] = [];
    const { volume_id } = await instance.call<{ volume_id: string }>("POST", "/volumes", { name: "kept" });
    for (const environment of [ALONE, WRANGLER, ALONE]) {
      const name = `file-${files.length}`;
      const id = await instance.create({ tags: { kept: "yes" }, volumes: { "/kept": { volume_id } } });
      await instance.until(id, ["ready"]);
      await instance.exec(id, ["sh", "-c", `echo ${name} > /kept/${name}`]);
      await instance.call("POST", `/sandboxes/${id}/volumes/commit`);
      files.push(name);
      await instance.interrupt();
      instance.environment = environment;
      await instance.start();
      const { data } = await instance.call<{ data: unknown[] }>("GET", "/sandboxes?tag=kept=yes");
      expect(data).toHaveLength(files.length);
      for (const file of files) {
        const answer = await instance.fetch(`/volumes/${volume_id}/files?path=/${file}`);
        expect(await answer.text()).toBe(`${file}\n`);
      }
    }
  });
});

/** The ports that a process listens on; throws where that is not this machine's own address. */
function listeningOf(pid: number): number[] {
  const sockets = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  return ["tcp", "tcp6"].flatMap((family) => {
    const lines = readFileSync(`/proc/${pid}/net/${family}`, "utf8").trim().split("\n").slice(1);
    return lines.flatMap((line) => {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state !== LISTEN || !sockets.has(inode)) return [];
      const [address, port] = local!.split(":");
      if (address !== LOOPBACK) throw new Error(`It listens on ${local}.`);
      return [Number.parseInt(port!, 16)];
    });
  });
}

/** As `/proc/net/tcp` has them. */
const LISTEN = "0A";
const LOOPBACK = "0100007F";
