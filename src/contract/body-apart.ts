import type { ByteTarget } from "./byte-source.ts";

/**
 * A large body of a request to a port comes to the host on a connection of its own: `PUT …/ports/{port}/bodies/{id}` asks to upgrade to this protocol, and
 * once the host agrees, all that follows is the body as the app gets it, of the length that the request names or in chunks. The request itself says
 * which body is its own.
 */
export const BODY_PROTOCOL = "sandbar-body";

/** On the request: the id of its body, and the length in bytes, without which it comes in chunks. */
export const BODY_HEADER = "x-sandbar-body";
export const BODY_LENGTH_HEADER = "x-sandbar-body-length";

/** A request to a port, and where its body may go by itself. */
export interface PortTarget extends ByteTarget {
  body?: BodyTarget;
}

export interface BodyTarget extends ByteTarget {
  id: string;
}
