import type { Hash } from "node:crypto";
import { Transform } from "node:stream";
import { BadLayer } from "./unpack.ts";

/** Hands bytes on, and to a hash; fails with {@link BadLayer} behind so many. */
export function hashing(hash: Hash, maxBytes = Infinity): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      if (bytes > maxBytes) return done(new BadLayer(`the layer has more than ${maxBytes} bytes`));
      hash.update(chunk);
      done(null, chunk);
    },
  });
}
