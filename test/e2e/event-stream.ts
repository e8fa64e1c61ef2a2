export interface StreamEvent {
  id: string | undefined;
  event: string;
  data: Record<string, unknown>;
}

/** The events of a stream as they come. */
export async function* eventsOf(response: Response): AsyncGenerator<StreamEvent> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body!) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true });
    const blocks = rest.split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      // A comment.
      if (block.startsWith(":")) continue;
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
      yield { id: field("id"), event: field("event")!, data: JSON.parse(field("data")!) as StreamEvent["data"] };
    }
  }
}

export async function allEvents(response: Response): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  for await (const event of eventsOf(response)) events.push(event);
  return events;
}

/** The bytes of one output that the events carry. */
export function outputOf(events: StreamEvent[], stream: "stdout" | "stderr"): string {
  const parts = events
    .filter(({ event }) => event === stream)
    .map(({ data }) => Buffer.from(String(data["data"]), "base64"));
  return Buffer.concat(parts).toString();
}
