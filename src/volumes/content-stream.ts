import { ApiError } from "../contract/errors.ts";
import type { PackStore } from "./pack-store.ts";
import type { Piece } from "./rpc.ts";

/** The bytes of the pieces, one after the other. Throws before the first where the bucket has not got that. */
export async function streamPieces(store: PackStore, pieces: Piece[]): Promise<ReadableStream<Uint8Array>> {
  const { readable, writable } = new FixedLengthStream(pieces.reduce((sum, { length }) => sum + length, 0));
  const [first, ...others] = pieces;
  const begun = first && (await bytesOf(store, first));
  const pass = async () => {
    try {
      if (begun) await begun.pipeTo(writable, { preventClose: true });
      for (const piece of others) await (await bytesOf(store, piece)).pipeTo(writable, { preventClose: true });
      await writable.close();
    } catch (error) {
      await writable.abort(error);
    }
  };
  // Broken off here, it breaks off there: whoever reads it is told.
  pass().catch(() => undefined);
  return readable;
}

async function bytesOf(store: PackStore, { pack, offset, length }: Piece): Promise<ReadableStream<Uint8Array>> {
  const object = await store.get(pack, { offset, length });
  if (object) return object.body;
  throw new ApiError("backend_unavailable", { detail: "The file has just been written anew. Try again." });
}
