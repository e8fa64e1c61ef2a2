/** How many faults of which kind have been injected, and where. */
export class Tally {
  readonly #injected: { kind: string; where: string }[] = [];

  add(kind: string, where: string): void {
    this.#injected.push({ kind, where });
  }

  total(where?: string): number {
    return this.#count(undefined, where);
  }

  table(): string {
    const kinds = [...new Set(this.#injected.map(({ kind }) => kind))];
    const places = [...new Set(this.#injected.map(({ where }) => where))];
    const line = (name: string, cells: (string | number)[]) =>
      `  ${name.padEnd(36)}${cells.map((cell) => String(cell).padStart(10)).join("")}`;
    const counts = (kind: string | undefined) => [
      ...places.map((place) => this.#count(kind, place)),
      this.#count(kind, undefined),
    ];
    return [
      line("injected faults", [...places, "all"]),
      ...kinds.map((kind) => line(kind, counts(kind))),
      line("all", counts(undefined)),
    ].join("\n");
  }

  #count(kind: string | undefined, where: string | undefined): number {
    const isCounted = (one: { kind: string; where: string }) =>
      (kind === undefined || one.kind === kind) && (where === undefined || one.where === where);
    return this.#injected.filter(isCounted).length;
  }
}
