import { spawn, execFile } from "node:child_process";
import { once } from "node:events";
import { openSync, readlinkSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { createSocket } from "node:dgram";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  bindUdp,
  boundPort,
  dialIn,
  inNamespace,
  listenTcp,
  originalDestination,
} from "../../../src/host/network/namespace.ts";
import { noLab } from "./lab.ts";
import { ALL_ADDRESSES, OwnNetwork } from "./own-network.ts";

const run = promisify(execFile);

describe.skipIf(noLab !== undefined)("sockets in another network namespace", () => {
  let box: OwnNetwork;
  let namespace: number;
  const inside = async (program: string) =>
    (await run("nsenter", [`--net=${box.path}`, "python3", "-c", `import socket\n${program}`])).stdout.trim();

  beforeAll(async () => {
    box = await OwnNetwork.open(ALL_ADDRESSES);
    namespace = box.namespace;
  });
  afterAll(() => box?.close());

  it("are there, and this process is where it was", async () => {
    const before = readlinkSync("/proc/thread-self/ns/net");
    expect(inNamespace(namespace, () => readlinkSync("/proc/thread-self/ns/net"))).toBe(readlinkSync(box.path));
    expect(() =>
      inNamespace(namespace, () => {
        throw new Error("out");
      }),
    ).toThrow("out");
    expect(readlinkSync("/proc/thread-self/ns/net")).toBe(before);
    expect(() => inNamespace(openSync("/dev/null", "r"), () => {})).toThrow(/setns/);
  });

  it.each(["127.0.0.1", "::1"])("take connections to %s", async (address) => {
    const fd = listenTcp(namespace, address);
    const server = createServer((socket) => socket.end("hello")).listen({ fd });
    const port = boundPort(fd);
    expect((server.address() as AddressInfo).port).toBe(port);
    expect(await inside(`print(socket.create_connection(("${address}",${port})).recv(99).decode())`)).toBe("hello");
    expect(() => listenTcp(namespace, address, port)).toThrow(expect.objectContaining({ errno: 98 }));
    const dialled = await dialIn(namespace, port, address);
    expect(String(await once(dialled, "data"))).toBe("hello");
    server.close();
  });

  it("tell where a redirected connection was to go", async () => {
    const fd = listenTcp(namespace, "127.0.0.1");
    const port = boundPort(fd);
    const fd6 = listenTcp(namespace, "::1", port);
    const servers = [fd, fd6].map((each) =>
      createServer((socket) => socket.end(JSON.stringify(originalDestination(socket)))).listen({ fd: each }),
    );
    const nft = inNamespace(namespace, () => spawn("nft", ["-f", "-"], { stdio: ["pipe", "inherit", "inherit"] }));
    nft.stdin!.end(
      `table inet t {\nchain c {\n type nat hook output priority -110;\nmeta l4proto tcp tcp dport 443 redirect to :${port}\n}\n}\n`,
    );
    expect(await once(nft, "exit")).toEqual([0, null]);
    for (const address of ["198.51.100.7", "2001:db8::7"])
      expect(JSON.parse(await inside(`print(socket.create_connection(("${address}",443)).recv(99).decode())`))).toEqual(
        { address, port: 443 },
      );
    for (const server of servers) server.close();
  });

  it("take datagrams", async () => {
    const fd = bindUdp(namespace, "127.0.0.1");
    const port = boundPort(fd);
    const socket = createSocket("udp4").on("message", (text, from) => socket.send(`${text}!`, from.port, from.address));
    socket.bind({ fd });
    expect(
      await inside(
        `s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b"hello",("127.0.0.1",${port})); print(s.recv(9).decode())`,
      ),
    ).toBe("hello!");
    socket.close();
  });

  it("are refused where nothing listens", async () => {
    await expect(dialIn(namespace, 1)).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });
});
