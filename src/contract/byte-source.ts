/**
 * Where bytes come from: a stream at hand, or a request to the host that sends them. The request is signed, for one use
 * within half a minute, so that whoever is handed it streams from the host without passing the sandbox's object.
 */
export type ByteSource =
  | { kind: "stream"; body: ReadableStream<Uint8Array> }
  | { kind: "request"; url: string; headers: Record<string, string> };

/** Where bytes go: likewise a request to the host, a `PUT` unless said otherwise, whose body they are. */
export interface ByteTarget {
  url: string;
  headers: Record<string, string>;
}
