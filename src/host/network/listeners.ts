import { closeSync } from "node:fs";
import { bindUdp, boundPort, listenTcp } from "./namespace.ts";
import type { Listening } from "./dns-server.ts";

const IPV4_LOOPBACK = "127.0.0.1";
const IPV6_LOOPBACK = "::1";
/** Of a namespace without IPv6: EADDRNOTAVAIL and EAFNOSUPPORT. */
const NO_IPV6 = [99, 97];
const EADDRINUSE = 98;
const ATTEMPTS = 20;

/** The sockets of a gate, on its namespace's loopback. */
export interface Listeners {
  tcp: { port: number; sockets: Listening[] };
  /** On one port for both. */
  dns: { port: number; udp: Listening[]; tcp: Listening[] };
}

/** Opens them, on ports of the kernel's choice, in both families where there are both. Leaves none behind when it throws. */
export function openListeners(namespace: number): Listeners {
  const opened: number[] = [];
  try {
    const tcp = onOnePort([listenTcp], namespace, opened);
    const dns = onOnePort([bindUdp, listenTcp], namespace, opened);
    return {
      tcp: { port: tcp.port, sockets: tcp.sockets[0]! },
      dns: { port: dns.port, udp: dns.sockets[0]!, tcp: dns.sockets[1]! },
    };
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw error;
  }
}

type Open = (namespace: number, address: string, port?: number) => number;

/** What the kernel chose for one may be taken for another: then it chooses anew. */
function onOnePort(kinds: Open[], namespace: number, opened: number[]): { port: number; sockets: Listening[][] } {
  for (let attempt = 1; ; attempt++) {
    const before = opened.length;
    let port = 0;
    try {
      const sockets = kinds.map((open) => {
        const ipv4 = open(namespace, IPV4_LOOPBACK, port);
        opened.push(ipv4);
        port = boundPort(ipv4);
        const ipv6 = withoutIpv6(() => open(namespace, IPV6_LOOPBACK, port));
        if (ipv6 === undefined) return [{ fd: ipv4, isIpv6: false }];
        opened.push(ipv6);
        return [
          { fd: ipv4, isIpv6: false },
          { fd: ipv6, isIpv6: true },
        ];
      });
      return { port, sockets };
    } catch (error) {
      if ((error as { errno?: number }).errno !== EADDRINUSE || attempt === ATTEMPTS) throw error;
      for (const fd of opened.splice(before)) closeSync(fd);
    }
  }
}

function withoutIpv6(open: () => number): number | undefined {
  try {
    return open();
  } catch (error) {
    if (NO_IPV6.includes((error as { errno?: number }).errno!)) return undefined;
    throw error;
  }
}
