import { runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { ContainerHost } from "../../src/backends/cloudflare/container-host.ts";
import { CloudflareStore } from "../../src/backends/cloudflare/store.ts";
import { newId } from "../../src/contract/ids.ts";
import { codeOf, startSpec } from "../backends/under-test.ts";
import { LyingAgent, until } from "./lying-agent.ts";
import { objectOf } from "./sandboxes.ts";

/** The platform's container as far as it is asked here: it runs from `start` to `destroy`, and its agent is the test's. */
class StagedContainer {
  running = false;
  readonly images = { base: "the base image" };
  readonly starts: { env: Record<string, string>; image?: string }[] = [];
  destroyed = 0;
  /** Why it does not run. */
  cause = "it was never started";
  readonly agent = new LyingAgent();

  start(options: { env: Record<string, string>; image?: string }): void {
    this.starts.push(options);
    this.running = this.cause !== "no container instance available";
  }
  async destroy(): Promise<void> {
    this.destroyed += 1;
    this.running = false;
  }
  async monitor(): Promise<void> {
    throw new Error(this.cause);
  }
  async setInactivityTimeout(): Promise<void> {}
  getTcpPort = () => ({ connect: () => this.agent.dial() });
}

interface Stage {
  storage: DurableObjectStorage;
  container: StagedContainer;
  host: ContainerHost;
  /** How often the object was told that the container has ended by itself. */
  ends(): number;
  /** The same container and storage, in another life of the object. */
  reopen(): ContainerHost;
}

async function onStage(work: (stage: Stage) => Promise<void>): Promise<void> {
  await runInDurableObject(objectOf(newId("sandbox")), async (_, { storage }) => {
    const container = new StagedContainer();
    const kept: Promise<unknown>[] = [];
    let ends = 0;
    const reopen = () =>
      new ContainerHost({
        container: container as unknown as Container,
        storage,
        keepAwake: (run) => kept.push(run),
        ended: () => (ends += 1),
        socketOf: () => {
          throw new Error("nobody is attached");
        },
      });
    await work({ storage, container, host: reopen(), ends: () => ends, reopen });
    container.running = false;
    container.agent.end();
    await Promise.all(kept);
  });
}

const spec = (more: object = {}) => startSpec("base", "sb-aaaaaaaaaaaaaaaaaaaaaa", more);

describe("the start of a container", () => {
  it("tells the agent the sandbox's variables, and the platform only the agent's own", async () => {
    await onStage(async ({ container, host }) => {
      const starting = host.start(spec({ env: { PATH: "/mine", PERL5OPT: "-x" }, workdir: "/made" }), undefined);
      const greeting = await container.agent.greeted("B");
      expect(greeting.words).toEqual(["/made", "PATH=/mine", "PERL5OPT=-x"]);
      await greeting.say("b");
      expect(await starting).toEqual({ kind: "launched", publishedPorts: {} });
      expect(Object.keys(container.starts[0]!.env)).toEqual(["SANDBAR_AGENT_TOKEN", "SANDBAR_AGENT_PORT"]);
      expect(container.starts[0]).toMatchObject({ image: "the base image", enableInternet: true, instance: "basic" });
    });
  });

  it("fails for good, at once and with the reason, where the workdir cannot be made", async () => {
    await onStage(async ({ container, host }) => {
      const starting = host.start(spec({ workdir: "/no" }), undefined);
      await (await container.agent.greeted("B")).refuses("exec_failed", "workdir /no: read-only file system");
      expect(await starting).toEqual({ kind: "failed", error: "workdir /no: read-only file system" });
      expect([container.running, container.destroyed]).toEqual([false, 1]);
    });
  });

  it("is tried again where the platform has no room, and fails for good where it does not run", async () => {
    await onStage(async ({ container, host }) => {
      container.cause = "no container instance available";
      expect(await codeOf(host.start(spec(), undefined))).toBe("backend_unavailable");
      container.cause = "Container failed to start";
      const starting = host.start(spec(), undefined);
      container.running = false;
      expect(await starting).toMatchObject({ kind: "failed", error: expect.stringContaining("failed to start") });
    });
  });

  it("is given up when a stop comes meanwhile, which wins", async () => {
    await onStage(async ({ container, host }) => {
      const starting = codeOf(host.start(spec(), undefined));
      await container.agent.greeted("B");
      await host.stop(1);
      expect(await starting).toBe("sandbox_ended");
      expect(await host.inspect()).toEqual({ kind: "gone" });
      expect(await codeOf(host.start(spec(), undefined))).toBe("sandbox_ended");
      expect(container.starts).toHaveLength(1);
    });
  });
});

describe("an entrypoint", () => {
  const withMain = spec({ entrypoint: ["serve"] });

  it("whose start was not answered is started again, by this life of the object or the next", async () => {
    await onStage(async ({ container, host, reopen }) => {
      const starting = codeOf(host.start(withMain, undefined));
      await (await container.agent.greeted("B")).say("b");
      (await container.agent.greeted("X")).hangUp();
      expect(await starting).toBe("backend_unavailable");
      const next = reopen();
      const again = next.start(withMain, undefined);
      await (await container.agent.greeted("B")).say("b");
      const main = await container.agent.greeted("X");
      expect(main.words[0]).toBe("main");
      await main.started();
      expect(await again).toMatchObject({ kind: "adopted" });
      expect(container.starts).toHaveLength(1);
      expect(await next.inspect()).toMatchObject({ kind: "running", busy: false });
    });
  });

  async function begun({ container, host }: Stage) {
    const starting = host.start(withMain, undefined);
    await (await container.agent.greeted("B")).say("b");
    const main = await container.agent.greeted("X");
    await main.started();
    await starting;
    return main;
  }

  it("takes its container along when it ends, once", async () => {
    await onStage(async (stage) => {
      const main = await begun(stage);
      await main.exits(4);
      await until(() => stage.ends() === 1, "the end");
      expect(stage.container.running).toBe(false);
      const exit = { returncode: 4, oom: false, deadline: false };
      expect(await stage.host.inspect()).toEqual({ kind: "exited", generation: 1, exit });
      // A start that comes late finds it so, also in another life: it is not begun again.
      expect(await stage.reopen().start(withMain, undefined)).toMatchObject({ kind: "adopted" });
      expect(stage.container.starts).toHaveLength(1);
    });
  });

  it("that its agent has lost is lost, and its container with it", async () => {
    await onStage(async (stage) => {
      (await begun(stage)).hangUp();
      await (await stage.container.agent.greeted("A")).refuses("process_not_found", "");
      await until(() => stage.ends() === 1, "the end");
      expect([await stage.host.inspect(), stage.container.running]).toEqual([{ kind: "gone" }, false]);
    });
  });

  it("whose end was written down by an earlier life of the object, and no more, ends the container in the next", async () => {
    await onStage(async (stage) => {
      const { container, storage, reopen } = stage;
      const main = await begun(stage);
      // That life does not come to take the container down.
      const held = Promise.withResolvers<void>();
      container.destroy = () => held.promise;
      await main.exits(3);
      await main.hears("D");
      container.destroy = StagedContainer.prototype.destroy;
      // It went down between the two.
      const store = new CloudflareStore(storage);
      const { exit, ...before } = store.container!;
      expect(exit).toBeDefined();
      store.saveContainer(before);
      const next = reopen();
      await next.inspect();
      await until(() => !container.running, "the container's end");
      expect(await next.inspect()).toMatchObject({ kind: "exited", exit: { returncode: 3 } });
      held.resolve();
    });
  });
});
