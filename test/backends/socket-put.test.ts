import { describe, expect, inject, it } from "vitest";
import { putOverSocket } from "../../src/api/socket-put.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { errorOfHostAnswer } from "../../src/contract/host-answer.ts";
import { exec, runIn, text, type BackendUnderTest } from "./under-test.ts";

const MIB = 1_048_576;
const never = new AbortController().signal;

/** So many bytes that tell their places apart, in pieces of no even size; `breakAt`: an error instead of the rest. */
function bodyOf(size: number, breakAt = Infinity): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    type: "bytes",
    pull(controller) {
      if (at >= breakAt) return controller.error(new Error("the client has gone"));
      if (at >= size) return controller.close();
      const piece = Uint8Array.from(
        { length: Math.min(99_991, size - at) },
        (_, i) => ((at + i) * 31 + ((at + i) >> 9)) & 0xff,
      );
      at += piece.length;
      controller.enqueue(piece);
    },
  });
}

const sha256 = async (body: ReadableStream<Uint8Array>) => {
  const digest = await crypto.subtle.digest("SHA-256", await new Response(body).arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

for (const host of inject("realHosts")) {
  const under: BackendUnderTest = {
    name: host.runtime,
    image: host.image,
    open: (sandboxId) => new DockerBackend(sandboxId, 1, host, inject("signingSecret")),
  };
  const target = (backend: DockerBackend, path: string, size: number) =>
    backend.uploadTarget({ what: "file", path, options: { size } });

  describe(`a body over a socket of its own, to a host with the ${host.runtime} runtime`, () => {
    it("arrives whole, and in its order", () =>
      runIn(under, {}, async (backend) => {
        const size = 5 * MIB + 3;
        const to = await target(backend as DockerBackend, "/tmp/large", size);
        const answer = await putOverSocket(to, bodyOf(size), size, never);
        expect(answer?.status).toBe(204);
        const { output } = await exec(backend, ["sha256sum", "/tmp/large"]);
        expect(text(output?.stdout).slice(0, 64)).toBe(await sha256(bodyOf(size)));
      }));

    it("may be refused before it has been sent, for a reason that is heard", () =>
      runIn(under, {}, async (backend) => {
        const size = 64 * MIB;
        const to = await target(backend as DockerBackend, "/tmp", size);
        const answer = await putOverSocket(to, bodyOf(size), size, never);
        expect((await errorOfHostAnswer(answer!))?.code).toBe("is_a_directory");
      }));

    it("that breaks off leaves nothing", () =>
      runIn(under, {}, async (backend) => {
        const size = 8 * MIB;
        const to = await target(backend as DockerBackend, "/tmp/broken", size);
        await expect(putOverSocket(to, bodyOf(size, 4 * MIB), size, never)).rejects.toThrow("the client has gone");
        const listed = async () => text((await exec(backend, ["ls", "-A", "/tmp"])).output?.stdout);
        await expect.poll(listed, { timeout: 10_000 }).not.toMatch(/broken|\.sandbar-/);
      }));

    it("ends when whoever sends it gives up", () =>
      runIn(under, {}, async (backend) => {
        const to = await target(backend as DockerBackend, "/tmp/given-up", 8 * MIB);
        const client = new AbortController();
        const endless = new IdentityTransformStream().readable;
        const put = putOverSocket(to, endless, 8 * MIB, client.signal);
        setTimeout(() => client.abort(), 200);
        await expect(put).rejects.toThrow();
        await expect(putOverSocket(to, endless, 8 * MIB, client.signal)).rejects.toThrow("abort");
      }));
  });
}

it("is left alone where no socket can be had", async () => {
  const body = bodyOf(MIB);
  const answer = await putOverSocket({ url: "http://127.0.0.1:1/v1", headers: {} }, body, MIB, never);
  expect(answer).toBeUndefined();
  expect(body.locked).toBe(false);
});
