interface StreamedEvent {
  id: string | undefined;
  event: string | undefined;
  data: Record<string, unknown>;
}

/** The events of the text of a stream. */
export function eventsOf(stream: string): StreamedEvent[] {
  const field = (block: string, name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
  return stream.split("\n\n").flatMap((block) => {
    const data = field(block, "data");
    if (data === undefined) return [];
    return { id: field(block, "id"), event: field(block, "event"), data: JSON.parse(data) as Record<string, unknown> };
  });
}
