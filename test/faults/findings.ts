/** What must not happen and did. */
export interface Violation {
  /** The invariant, in a word or two. */
  rule: string;
  /** What was seen. */
  what: string;
}

const IDS = /\b(sb|pr|ho|op|key)-[a-z0-9]+\b|[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+/g;
const SHOWN_EXAMPLES = 4;

/** All violations of a run. */
export class Findings {
  readonly all: Violation[] = [];

  add(rule: string, what: string): void {
    if (!this.all.some((one) => one.rule === rule && one.what === what)) this.all.push({ rule, what });
  }

  /** A line for each kind, how often it was, and examples. Empty when nothing was found. */
  report(): string {
    const kinds = new Map<string, Violation[]>();
    for (const violation of this.all) {
      const kind = `${violation.rule}: ${violation.what.replaceAll(IDS, "…").slice(0, 60)}`;
      kinds.set(kind, [...(kinds.get(kind) ?? []), violation]);
    }
    return [...kinds.values()]
      .map((ofKind) => {
        const examples = ofKind.slice(0, SHOWN_EXAMPLES).map(({ what }) => `    ${what}`);
        return [`${ofKind[0]!.rule}: ${ofKind.length}×`, ...examples].join("\n");
      })
      .join("\n");
  }
}
