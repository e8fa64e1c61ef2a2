import type { Socket } from "node:net";
import { Writable } from "node:stream";

/**
 * A process's input over a socket. Bytes that nobody reads any more are no error: a process may end before its input does.
 * `end` is what ends the input.
 */
export function inputOf(socket: Socket, end: () => void = () => socket.destroy()): Writable {
  return new Writable({
    autoDestroy: false,
    write(chunk: Buffer, _encoding, done) {
      if (socket.destroyed) return done();
      let called = false;
      const once = () => {
        if (!called) done();
        called = true;
      };
      socket.once("close", once);
      socket.write(chunk, () => {
        socket.off("close", once);
        once();
      });
    },
    final(done) {
      end();
      done();
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
}

/** The input of a process that has none. */
export function noInput(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
