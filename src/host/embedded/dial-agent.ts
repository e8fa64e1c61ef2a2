/**
 * Runs in the network namespace of a container, and in nothing else of it: hands on connections from the daemon's
 * Unix socket to ports there. A connection starts with `PORT\n`; the answer is `ok\n` or `refused\n`, then come the
 * bytes. Ends when its parent closes its standard input.
 */
import { connect, createServer, type Socket } from "node:net";
import { readLine } from "./dial-line.ts";

const LOOPBACKS = ["127.0.0.1", "::1"];

process.stdin
  .on("close", () => process.exit(0))
  .on("error", () => process.exit(0))
  .resume();

const server = createServer({ allowHalfOpen: true }, (client) => {
  client.on("error", () => client.destroy());
  readLine(client).then(
    (line) => attempt(client, Number(line), [...LOOPBACKS]),
    () => client.destroy(),
  );
});
server.listen(process.argv[2], () => process.stdout.write("ready\n"));

function attempt(client: Socket, port: number, hosts: string[]): void {
  const host = hosts.shift();
  if (host === undefined || !(port >= 1 && port <= 65_535)) return void client.end("refused\n", () => client.destroy());
  const target = connect({ host, port, allowHalfOpen: true });
  const onError = () => attempt(client, port, hosts);
  target.once("error", onError);
  target.once("connect", () => {
    target.off("error", onError);
    client.write("ok\n");
    // Each direction ends by itself; a broken one takes both down.
    for (const [one, other] of [
      [client, target],
      [target, client],
    ] as const) {
      one.pipe(other);
      one
        .on("error", () => other.destroy())
        .on("close", () => {
          if (one.errored !== null || !one.readableEnded) other.destroy();
        });
    }
  });
}
