import { execSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import { DockerHost, exec, inspect, noEngine, spec } from "./docker-host.ts";

const host = await DockerHost.open();
const { runtime, hostId } = host;
const start = (more: Parameters<typeof host.start>[0] = {}) => host.start(more);
/** fsetxattr and fgetxattr. */
const [SET, GET] = process.arch === "x64" ? [190, 193] : [7, 10];

afterAll(() => host.close());

describe.skipIf(noEngine !== undefined)("snapshots on an engine", () => {
  it("forgets the names of images that an earlier daemon was killed over moving", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sandbar-moving-"));
    await writeFile(join(folder, "gateway"), "127.0.0.1:9");
    const [left, others] = ["127.0.0.1:9/main/snapshots:im-x", "127.0.0.1:99/main/snapshots:im-x"];
    for (const name of [left, others]) execSync(`docker tag debian:bookworm-slim ${name}`);
    try {
      await openDockerRuntime({ dataDir: folder, hostId });
      const names = execSync("docker images --format '{{.Repository}}:{{.Tag}}'").toString().split("\n");
      expect([left, others, "debian:bookworm-slim"].map((name) => names.includes(name))).toEqual([false, true, true]);
    } finally {
      execSync(`docker rmi ${others}`);
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("starts by no other name than their own, nor does what was pushed", async () => {
    const name = "127.0.0.1:9/main/pushed:1";
    const id = execSync(`tar -c -T /dev/null | docker import - ${name}`).toString().trim();
    try {
      for (const image of [
        `sandbar/${hostId}:im-x`,
        "sandbar/snapshot:im-x",
        "docker.io/sandbar/x",
        id,
        id.slice(7, 19),
      ])
        await expect(runtime.start(spec({ image })), image).rejects.toThrow(/is a snapshot, or was pushed/);
    } finally {
      execSync(`docker rmi ${name}`);
    }
  });

  it("keeps extended attributes, which a commit loses", async () => {
    const container = await start();
    const set = `open(my $f, ">", "/root/a"); syscall(${SET}, fileno($f), my $n = "user.k", my $v = "1\\0", 2, 0)`;
    expect((await exec(container, ["perl", "-e", set])).code).toBe(0);
    const imageId = newId("image");
    try {
      await container.snapshot(imageId);
      expect(inspect(container, "{{.State.Paused}}")).toBe("false");
      const restored = await start({ image: imageId });
      const get = `open(my $f, "<", "/root/a"); my $v = "\\0" x 9; print syscall(${GET}, fileno($f), my $n = "user.k", $v, 9)`;
      expect((await exec(restored, ["perl", "-e", get])).stdout).toBe("2");
    } finally {
      await runtime.removeImage(imageId);
    }
  });
});
