import {
  AckSchema,
  CHANNEL,
  channelMessage,
  CLOSE,
  ResizeMessageSchema,
  START,
  statusOfEnd,
  type AttachSpec,
  type HostClose,
} from "../../src/contract/attach.ts";
import { OUTPUT_STREAMS } from "../../src/contract/process.ts";
import type { FakeHost } from "./fake-host.ts";
import type { FakeProcess } from "./fake-process.ts";
import { endOf } from "./fake-streams.ts";

/** Speaks on a socket that was dialled back, until either end closes it. */
export async function serveAttachment(
  host: FakeHost,
  process: FakeProcess,
  socket: WebSocket,
  spec: AttachSpec,
): Promise<void> {
  const cursor = { stdout: spec.stdout_offset, stderr: spec.stderr_offset };
  let isStarted = false;
  let isClosed = false;
  socket.addEventListener("close", () => {
    isClosed = true;
  });
  socket.addEventListener("message", ({ data }) => {
    if (data === START) isStarted = true;
    else if (typeof data !== "string") take(process, new Uint8Array(data as ArrayBuffer), spec.acks);
  });
  socket.binaryType = "arraybuffer";
  socket.accept();
  while (!isClosed && !host.cutsSockets) {
    await new Promise((wake) => setTimeout(wake, 2));
    if (!isStarted || isClosed) continue;
    const isOver = process.tick().returncode !== null;
    let isBehind = false;
    for (const stream of OUTPUT_STREAMS) {
      const bytes = process[stream].from(cursor[stream]).slice(0, 65_536);
      if (bytes.length === 0) continue;
      socket.send(channelMessage(CHANNEL[stream], bytes));
      cursor[stream] += bytes.length;
      isBehind = true;
    }
    if (!isOver || isBehind || host.isMute) continue;
    socket.send(channelMessage(CHANNEL.status, JSON.stringify(statusOfEnd(endOf(process)))));
    socket.send(JSON.stringify({ close: { code: CLOSE.done, reason: "done" } } satisfies HostClose));
    return;
  }
  socket.close(isClosed ? 1000 : 1011, "gone");
}

function take(process: FakeProcess, message: Uint8Array, takesAcks: boolean): void {
  const payload = message.subarray(1);
  const json = (): unknown => JSON.parse(new TextDecoder().decode(payload));
  switch (message[0]) {
    case CHANNEL.stdin:
      if (!process.isStdinClosed) process.input(payload);
      return;
    case CHANNEL.resize: {
      const { Width: cols, Height: rows } = ResizeMessageSchema.parse(json());
      if (process.terminal) process.resize({ rows, cols });
      return;
    }
    case CHANNEL.ack:
      if (takesAcks) AckSchema.parse(json());
      return;
    case CHANNEL.close:
      if (payload[0] === CHANNEL.stdin) process.endInput();
  }
}
